"""What happens in a lockstep run, as the bag that the live recorder would have written of it.

Same topics, types and qualities of service (`data.recorded_topics`); log time is when a message would have
been published.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vla_ros.contract import Contract
from vla_ros.control.controller import Tick
from vla_ros.data.bag import BagWriter
from vla_ros.data.calibration import calibration_text
from vla_ros.data.image_encoding import LOSS_EVERY, psnr
from vla_ros.data.message_types import time_fields
from vla_ros.data.recorded_topics import camera_info_topic, contract_topics
from vla_ros.errors import ConfigurationError, did_you_mean
from vla_ros.robots.spec import CameraSpec
from vla_ros.sim.realtime import Sample
from vla_ros.sim.reports import arm_report, gripper_report, own_gripper_topic, reported_position
from vla_ros.types import ActionChunk, Array, Image, JointState, Observation, PolicyOutput, Pose, Source

IMAGES = ("jpeg", "raw")
JPEG_QUALITY = 95


class BagLog:
    """Writes one bag.  A context manager; `close` writes its index."""

    def __init__(
        self,
        path: Path,
        contract: Contract,
        metadata: Mapping[str, str] | None = None,
        images: str = "jpeg",
        quality: int = JPEG_QUALITY,
    ) -> None:
        """`images`: raw, or jpeg at `quality` on `<topic>/compressed` where the contract's camera is not
        compressed already.  `metadata`: further texts to embed.

        Raises `ConfigurationError` for another kind of images, and `DataError` when the bag cannot be made.
        """
        if images not in IMAGES:
            raise ConfigurationError(
                f"images '{images}' are unknown, known are {', '.join(IMAGES)}.{did_you_mean(images, IMAGES)}"
            )
        robot = contract.robot
        self._robot, self._jpeg, self._quality = robot, images == "jpeg", quality
        texts = {
            "contract": contract.to_yaml(),
            "robot": robot.yaml,
            "urdf": robot.urdf,
            "calibration": calibration_text(contract.cameras),
            **(metadata or {}),
        }
        self._losses: dict[str, list[float]] = {}
        self._types: dict[str, str] = {}
        self._messages: dict[str, Any] = {}
        self._writer = writer = BagWriter(path, texts)
        raw = {camera.topic for camera in contract.cameras.values() if not camera.compressed}
        for topic in contract_topics(contract):
            name, kind = topic.name, topic.type_name
            if self._jpeg and name in raw:
                name, kind = f"{name}/compressed", "sensor_msgs/msg/CompressedImage"
            self._types[name] = kind
            writer.add_topic(name, kind, topic.quality == "latched", topic.quality == "best_effort")

    # ---- robot and cameras

    def frame(self, camera: CameraSpec, stamp: int, rgb: Image) -> None:
        """One image (height, width, 3) of a camera at `stamp` [ns], and its calibration beside it."""
        header = {"stamp": time_fields(stamp), "frame_id": optical_frame(camera)}
        if self._jpeg or camera.compressed:
            bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
            _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
            topic = camera.topic if camera.compressed else f"{camera.topic}/compressed"
            self._put(topic, stamp, {"header": header, "format": "rgb8; jpeg compressed bgr8",
                                     "data": jpeg.ravel()})  # fmt: skip
            if self._writer.counts[topic] % LOSS_EVERY == 0:
                shown = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))
                self._losses.setdefault(topic, []).append(psnr(bgr, shown))
        else:
            height, width = rgb.shape[:2]
            self._put(camera.topic, stamp, {"header": header, "height": height, "width": width,
                                            "encoding": "rgb8", "step": 3 * width,
                                            "data": np.ascontiguousarray(rgb).ravel()})  # fmt: skip
        self._put(camera_info_topic(camera.topic), stamp, _camera_info(camera, header))

    def joints(self, sample: Sample, gripper: bool, wrench: bool) -> None:
        """What the driver reports; `gripper`, `wrench`: whether those are due, where they have own topics."""
        driver, stamp = self._robot.driver, sample.stamp
        self._joint_state(driver.joint_state_topic, stamp, *arm_report(self._robot, sample))
        if gripper and own_gripper_topic(self._robot):
            topic = str(driver.gripper["joint_state_topic"])
            self._joint_state(topic, stamp, *gripper_report(self._robot, sample))
        if wrench and "wrench_topic" in driver.extra:
            force, torque = (dict(zip("xyz", map(float, part), strict=True))
                             for part in (sample.wrench[:3], sample.wrench[3:]))  # fmt: skip
            self._put(str(driver.extra["wrench_topic"]), stamp,
                      {"header": {"stamp": time_fields(stamp), "frame_id": self._robot.tcp_frame},
                       "wrench": {"force": force, "torque": torque}})  # fmt: skip

    def _joint_state(
        self, topic: str, stamp: int, names: Sequence[str], state: tuple[Array, Array, Array]
    ) -> None:
        self._put(topic, stamp, {"header": {"stamp": time_fields(stamp), "frame_id": ""},
                                 "name": list(names), "position": state[0], "velocity": state[1],
                                 "effort": state[2]})  # fmt: skip

    def command(self, stamp: int, positions: Array) -> None:
        """Joint positions (n,) [rad] to the driver, in its own type."""
        driver = self._robot.driver
        if driver.command_type.endswith("JointGroupCommand"):
            group = str(driver.extra.get("group", "arm"))
            self._put(driver.command_topic, stamp, {"name": group, "cmd": positions.astype(np.float32)})
        else:
            self._put(driver.command_topic, stamp, {"data": positions})

    def gripper_command(self, stamp: int, width: float) -> None:
        """An opening [m] to the gripper, where it takes one by topic."""
        gripper = self._robot.driver.gripper
        if gripper.get("kind") == "topic":
            name = str(gripper.get("command_joint", "gripper"))
            self._put(str(gripper["name"]), stamp,
                      {"name": name, "cmd": reported_position(self._robot, width)})  # fmt: skip

    # ---- the strip

    def observation(self, observation: Observation, published: int) -> None:
        """An observation without its pixels."""
        images = []
        for name, image in observation.images.items():
            height, width = image.rgb.shape[:2]
            images.append({"header": {"stamp": time_fields(image.stamp), "frame_id": name}, "height": height,
                           "width": width, "encoding": "rgb8", "step": 3 * width})  # fmt: skip
        joints: JointState = observation.joints
        self._put("/vla/observation", published, {
            "header": self._header(observation.stamp), "sequence": observation.sequence,
            "camera_names": list(observation.images), "images": images,
            "joint_state": {"header": {"stamp": time_fields(joints.stamp)},
                            "name": list(self._robot.joint_names), "position": joints.positions,
                            "velocity": joints.velocities, "effort": joints.efforts},
            "gripper_width": observation.gripper_width, "tcp_pose": _pose(observation.tcp_pose),
        })  # fmt: skip

    def output(self, output: PolicyOutput, policy: str, instruction: str, published: int) -> None:
        """A policy's or a person's answer."""
        rows = output.values if output.values is not None else output.tokens
        horizon, dimension = (0, 0) if rows is None else rows.shape
        values = np.zeros(0) if output.values is None else np.asarray(output.values, dtype=float).ravel()
        tokens = np.zeros(0, np.int64) if output.tokens is None else np.asarray(output.tokens).ravel()
        self._put("/vla/policy_output", published, {
            "header": {"stamp": time_fields(output.stamp), "frame_id": ""}, "sequence": output.sequence,
            "policy": policy, "source": int(output.source), "action_space": output.action_space,
            "normalization_key": output.normalization_key, "horizon": horizon, "dimension": dimension,
            "values": values, "tokens": tokens, "stage_names": list(output.latency),
            "stage_seconds": np.array(list(output.latency.values()), dtype=float),
            "terminate": bool(output.terminate), "text": output.text, "instruction": instruction,
            "published": time_fields(published),
        })  # fmt: skip

    def chunk(self, chunk: ActionChunk, output_published: int, published: int) -> None:
        """What the chunker made of it."""
        poses: list[dict[str, Any]] = []
        if chunk.translation is not None and chunk.quaternion is not None:
            poses = [
                _pose(Pose(position, quaternion))
                for position, quaternion in zip(chunk.translation, chunk.quaternion, strict=True)
            ]
        joints = np.zeros((0, 0)) if chunk.joints is None else chunk.joints
        self._put("/vla/action_chunk", published, {
            "header": self._header(chunk.stamp), "sequence": chunk.sequence, "source": int(chunk.source),
            "kind": int(chunk.kind), "composition": int(chunk.composition), "period": chunk.period,
            "poses": poses, "joint_count": int(joints.shape[1]), "joint_positions": joints.ravel(),
            "gripper_width": chunk.gripper_width, "output_published": time_fields(output_published),
        })  # fmt: skip

    def setpoint(self, tick: Tick, chunk_sequence: int) -> None:
        """One tick of the controller."""
        setpoint = tick.setpoint
        self._put("/vla/joint_setpoint", setpoint.stamp, {
            "header": self._header(setpoint.stamp), "tick": setpoint.tick, "positions": setpoint.positions,
            "velocities": setpoint.velocities, "accelerations": setpoint.accelerations,
            "gripper_width": setpoint.gripper_width, "state": int(tick.state),
            "chunk_sequence": chunk_sequence, "measured_stamp": time_fields(setpoint.measured_stamp),
            "observation_stamp": time_fields(setpoint.observation_stamp),
        })  # fmt: skip

    def status(self, stamp: int, fields: Mapping[str, Any]) -> None:
        """A status of the controller; `fields` of vla_ros/SafetyStatus but for the header, poses and stamps
        as we have them.
        """
        poses = {name: _pose(fields[name]) for name in ("reference_pose", "measured_pose")}
        stamps = {"observation_stamp": time_fields(fields["observation_stamp"])}
        self._put("/vla/safety_status", stamp, {"header": self._header(stamp), **fields, **poses, **stamps})

    # ---- the episode

    def instruction(self, stamp: int, text: str) -> None:
        """What is to be done."""
        self._put("/vla/instruction", stamp, {"data": text})

    def scene(self, stamp: int, text: str) -> None:
        """What it takes to lay the scene again, JSON."""
        self._put("/simulator/scene", stamp, {"data": text})

    def control_event(self, stamp: int, text: str) -> None:
        """One line of the controller's journal, JSON."""
        self._put("/vla/control_events", stamp, {"data": text})

    def authority(self, stamp: int, source: Source, device: str) -> None:
        """Who moves the robot from now on."""
        header = {"stamp": time_fields(stamp), "frame_id": ""}
        self._put("/vla/authority", stamp, {"header": header, "source": int(source), "device": device})

    def episode(self, stamp: int, fields: Mapping[str, Any], judge: bool = False) -> None:
        """A status: `fields` of vla_ros/EpisodeStatus but for the header; `judge`: the simulator's."""
        topic = "/simulator/episode_status" if judge else "/vla/episode_status"
        self._put(topic, stamp, {"header": {"stamp": time_fields(stamp), "frame_id": ""}, **fields})

    # ---- writing

    def _header(self, stamp: int) -> dict[str, Any]:
        return {"stamp": time_fields(stamp), "frame_id": self._robot.base_frame}

    def _put(self, topic: str, stamp: int, fields: Mapping[str, Any]) -> None:
        writer, name = self._writer, self._types[topic]
        message = self._messages.get(topic)
        if message is None:
            # filled again and again: making one anew costs as much as writing it
            message = self._messages[topic] = writer.types.create(name, **fields)
        else:
            _fill(writer, message, fields)
        writer.write(topic, name, stamp, writer.types.serialize(message, name))

    def conclude(self, texts: Mapping[str, str]) -> None:
        """Texts known at the end only."""
        self._writer.conclude(texts)

    def close(self) -> None:
        """Write index, what the images lost, and metadata.yaml.  Raises `DataError` when the disk refuses."""
        if self._losses:
            loss = {
                topic: {
                    "frames": len(known),
                    "mean_psnr": round(sum(known) / len(known), 2),
                    "min_psnr": round(min(known), 2),
                }
                for topic, known in self._losses.items()
            }
            self._writer.conclude({"image_loss": json.dumps(loss)})
        self._writer.close()

    def __enter__(self) -> BagLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def optical_frame(camera: CameraSpec) -> str:
    """Name of a camera's optical frame."""
    return f"{camera.name}_optical_frame"


def _camera_info(camera: CameraSpec, header: Mapping[str, Any]) -> dict[str, Any]:
    k = camera.intrinsics
    return {
        "header": header, "height": camera.height, "width": camera.width, "distortion_model": "plumb_bob",
        "d": np.zeros(5), "k": k.ravel(), "r": np.eye(3).ravel(),
        "p": np.hstack([k, np.zeros((3, 1))]).ravel(),
    }  # fmt: skip


def _pose(pose: Pose) -> dict[str, Any]:
    x, y, z = map(float, pose.position)
    qx, qy, qz, qw = map(float, pose.quaternion)
    return {"position": {"x": x, "y": y, "z": z}, "orientation": {"x": qx, "y": qy, "z": qz, "w": qw}}


def _fill(writer: BagWriter, message: Any, fields: Mapping[str, Any]) -> None:
    """Put `fields` into a message that `create` made of the same ones."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            _fill(writer, getattr(message, name), value)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            made = writer.types.create(message.__msgtype__, **{name: value})
            setattr(message, name, getattr(made, name))
        else:
            setattr(message, name, value)
