"""Small synthetic demonstration bags with faults put in on purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.contract import Contract, load_contract
from vla_ros.data.bag import BagWriter
from vla_ros.data.message_types import time_fields

START = 1_700_000_000_000_000_000
CAMERAS = {"primary": {"width": 32, "height": 24}, "wrist": {"width": 32, "height": 24}}


def small_contract(**overrides: Any) -> Contract:
    """A UR5 with two tiny cameras at 15 Hz, joints at 125 Hz, actions at 5 Hz."""
    return load_contract("ur5", **{"cameras": CAMERAS, "action_space": "delta_tcp", **overrides})


def at(seconds: float) -> int:
    return START + round(seconds * 1e9)


@dataclass(frozen=True)
class Sent:
    """One output of a policy or a person; times in seconds from the start of the episode."""

    stamp: float
    published: float
    source: int
    policy: str
    rows: np.ndarray
    """(horizon, dimension) or (dimension,)"""
    sequence: int = 0
    chunk: bool = False
    """Whether the chunker made a chunk of it."""
    error: str = ""


@dataclass
class Demonstration:
    """One episode; every function may be replaced to put a fault in.  Times in seconds from its start."""

    contract: Contract = field(default_factory=small_contract)
    seconds: float = 6.0
    episode_id: str = "e0"
    instruction: str = "put the red cube into the bowl"
    outcome: int | None = 2
    keep: Callable[[str, float], bool] = lambda name, t: True
    """(stream, time) of a message that is recorded."""
    shift: Callable[[str, float], float] = lambda name, t: t
    """(stream, time) to the stamp of the message."""
    recorded: Callable[[str, float], float] = lambda name, t: t
    """(stream, time) to the time of recording."""
    picture: Callable[[str, float], np.ndarray] | None = None
    """(camera, time) to the pixels."""
    action: Callable[[int], np.ndarray] | None = None
    chunk: Callable[[int], np.ndarray] | None = None
    """Step to the rows of a policy's chunk, instead of one action."""
    joints: Callable[[float], np.ndarray] | None = None
    width: Callable[[float], float] = lambda t: 0.08 if t < 3.0 else 0.02
    state: Callable[[float], int] = lambda t: 1
    source: Callable[[int], int] = lambda k: 1
    interventions: Sequence[tuple[float, str]] = ()
    encode: Callable[[np.ndarray], tuple[str, bytes]] | None = None
    """Pixels to (format, bytes): cameras are recorded encoded."""
    sent: Sequence[Sent] | None = None
    """Who sent what, instead of one action or chunk a step."""
    changes: Sequence[tuple[float, int]] = ()
    """(time, source) of who is in charge from then on."""
    lag: dict[str, float] = field(default_factory=dict)
    """Seconds that a camera's frames, or the `joint state`, lie behind the observation."""

    def write(self, writer: BagWriter, start: float = 0.0) -> None:
        """Put the episode into an open bag, in the order of recording."""
        entries: list[tuple[float, int, str, str, dict[str, Any]]] = []
        types, robot = writer.types, self.contract.robot

        def add(stream: str, t: float, topic: str, kind: str, stamp: bool = True, **values: Any) -> None:
            if not self.keep(stream, t):
                return
            when = self.recorded(stream, t)
            if stamp:
                header = {"stamp": time_fields(at(start + self.shift(stream, t)))}
                values = {"header": header, **values}
            entries.append((when, len(entries), topic, kind, values))

        def status(t: float, outcome: int) -> None:
            add(
                "status", t, "/vla/episode_status", "vla_ros/EpisodeStatus", episode_id=self.episode_id,
                task="test", instruction=self.instruction, outcome=outcome,
            )  # fmt: skip

        status(0.0, 1)
        if self.instruction:
            add("instruction", 0.0, "/vla/instruction", "std_msgs/String", False, data=self.instruction)
        for name, camera in self.contract.cameras.items():
            for k in range(int(self.seconds * camera.rate)):
                self._frame(add, name, camera, k / camera.rate)
        observed = min(camera.rate for camera in self.contract.cameras.values())
        for k in range(int(self.seconds * observed)):
            self._observation(add, start, k / observed)
        rate = robot.driver.joint_state_rate
        for k in range(int(self.seconds * rate)):
            t = k / rate
            add(
                "joint states", t, robot.driver.joint_state_topic, "sensor_msgs/JointState",
                name=list(robot.driver.joint_names), position=self.joints_at(t),
            )  # fmt: skip
            add("setpoints", t, "/vla/joint_setpoint", "vla_ros/JointSetpoint", state=self.state(t))
        for t, reason in self.interventions:
            items = [{"action": 0, "reason": reason}]
            add("safety", t, "/vla/safety_status", "vla_ros/SafetyStatus", interventions=items)
        space = self.contract.action_space
        for t, who in self.changes:
            # what was said before the recording is in it from its beginning
            add("authority", max(t, 0.0), "/vla/authority", "vla_ros/Authority", False, source=who,
                header={"stamp": time_fields(at(start + self.shift("authority", t)))})  # fmt: skip
        for one in self.sent or ():
            header = {"stamp": time_fields(at(start + self.shift(f"of {one.policy}", one.stamp)))}
            left = time_fields(at(start + self.shift(f"of {one.policy}", one.published)))
            rows = np.atleast_2d(one.rows)
            add(
                "actions", one.published, "/vla/policy_output", "vla_ros/PolicyOutput", False, header=header,
                policy=one.policy, source=one.source, action_space=space.name, horizon=rows.shape[0],
                dimension=rows.shape[1], values=np.float32(rows).astype(float).ravel(), published=left,
                sequence=one.sequence, error=one.error,
            )  # fmt: skip
            if one.chunk:
                add("chunks", one.published + 0.001, "/vla/action_chunk", "vla_ros/ActionChunk", False,
                    header=header, source=one.source, sequence=one.sequence)  # fmt: skip
        for k in range(int(self.seconds * space.rate) if self.sent is None else 0):
            t = k * space.period
            rows = np.atleast_2d(self.action_at(k)) if self.chunk is None else self.chunk(k)
            published = time_fields(at(start + self.shift("actions", t)))
            add(
                "actions", t, "/vla/policy_output", "vla_ros/PolicyOutput", policy="teleop",
                source=self.source(k), action_space=space.name, horizon=rows.shape[0],
                dimension=rows.shape[1], values=np.float32(rows).astype(float).ravel(), published=published,
            )  # fmt: skip
        if self.outcome is not None:
            status(self.seconds, self.outcome)
        for when, _, topic, kind, values in sorted(entries, key=lambda entry: entry[:2]):
            writer.write(topic, kind, at(start + when), types.create(kind, **values))

    def joints_at(self, t: float) -> np.ndarray:
        if self.joints is not None:
            return self.joints(t)
        return self.contract.robot.home + 0.3 * np.sin(0.8 * t)

    def action_at(self, k: int) -> np.ndarray:
        if self.action is not None:
            return self.action(k)
        gripper = 1.0 if k * self.contract.action_space.period < 3.0 else 0.0
        return np.array([0.01, 0.01 * np.sin(k), 0.0, 0.0, 0.0, 0.1, gripper])

    def picture_at(self, camera: str, t: float) -> np.ndarray:
        if self.picture is not None:
            return self.picture(camera, t)
        spec = self.contract.cameras[camera]
        rng = np.random.default_rng(round(t * 1000) + len(camera))
        return rng.integers(40, 200, (spec.height, spec.width, 3)).astype(np.uint8)

    def _frame(self, add: Callable[..., None], name: str, camera: Any, t: float) -> None:
        pixels = self.picture_at(name, t)
        height, width = pixels.shape[:2]
        if self.encode is None:
            add(
                f"camera {name}", t, camera.topic, "sensor_msgs/Image", encoding="rgb8", height=height,
                width=width, step=3 * width, data=pixels.tobytes(),
            )  # fmt: skip
            return
        form, data = self.encode(pixels)
        topic = f"{camera.topic}/compressed"
        add(f"camera {name}", t, topic, "sensor_msgs/CompressedImage", format=form, data=data)

    def _observation(self, add: Callable[..., None], start: float, t: float) -> None:
        images, stamped = [], self.shift("observations", t)
        for name, camera in self.contract.cameras.items():
            stamp = time_fields(at(start + stamped + self.lag.get(name, 0.0)))
            images.append({"header": {"stamp": stamp}, "width": camera.width, "height": camera.height})
        joints = {
            "header": {"stamp": time_fields(at(start + stamped + self.lag.get("joint state", 0.0)))},
            "name": list(self.contract.robot.driver.joint_names),
            "position": self.joints_at(t),
        }
        add(
            "observations", t, "/vla/observation", "vla_ros/Observation", images=images, joint_state=joints,
            camera_names=list(self.contract.cameras), gripper_width=self.width(t),
        )  # fmt: skip


def write_bag(path: Path, *episodes: Demonstration, contract: str | None = None, pause: float = 1.0) -> Path:
    """A bag of episodes, one after the other; `contract`: another text than that of the first episode."""
    text = episodes[0].contract.to_yaml() if contract is None else contract
    with BagWriter(path, {"contract": text} if text else {}) as writer:
        start = 0.0
        for episode in episodes:
            episode.write(writer, start)
            start += episode.seconds + pause
    return path
