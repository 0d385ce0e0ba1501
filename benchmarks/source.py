"""Cameras and a robot without physics: prepared frames, and joints that are where a command says."""

from __future__ import annotations

import math
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.action import ActionServer
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, JointState

from vla_ros.contract import load_contract
from vla_ros.control.clocks import sleep_until
from vla_ros.nodes import topics
from vla_ros.nodes.base import VlaNode, run
from vla_ros.nodes.camera_topics import IMAGE_QUALITY
from vla_ros.nodes.conversions import doubles, image_message, to_time
from vla_ros.nodes.driver_commands import import_type
from vla_ros.nodes.parameters import Parameter
from vla_ros.robots.spec import CameraSpec
from vla_ros.types import NANOSECONDS, CameraImage

PREPARED = 8
"""Different frames per camera, shown in turn: one picture alone would be refused as frozen."""
STAMP_AT = 4
"""Where header.stamp lies in a serialised message: after the encapsulation."""


class Beat:
    """Calls `step` every `period` [s] on a thread of its own, on an absolute clock."""

    def __init__(self, period: float, step: Callable[[], None]) -> None:
        self._period, self._step = period, step
        self._asked = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the present step."""
        self._asked.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._asked.is_set():
                # what was missed is left out, and the phase stays, as a camera or a driver would have it
                late = time.monotonic() - due
                due += self._period * max(1, math.ceil(late / self._period))
                sleep_until(due)
                self._step()
        except BaseException as error:
            self.error = error


class Source(VlaNode):
    """Publishes what a robot's cameras and driver would; logs every stamp and every command that arrives."""

    PARAMETERS = (
        Parameter("contract", "", "Path of the contract."),
        Parameter("output", "", "File for the log (.npz)."),
        Parameter("joint_state_rate", 250.0, "Joint states per second [Hz].", 1.0, 1000.0),
        Parameter("camera_offset", 0.005, "Each further camera is later by this [s].", 0.0, 1.0),
    )

    def __init__(self) -> None:
        super().__init__("source")
        contract = load_contract(self.value("contract"))
        self._robot = contract.robot
        driver = self._robot.driver
        self._positions = np.array(self._robot.home)
        self._sent_positions = self._positions
        self._joint_period = 1.0 / self.value("joint_state_rate")
        self._commands: list[tuple[int, int]] = []
        self._stamps: dict[str, list[int]] = {name: [] for name in contract.cameras}
        self._joints = self.create_publisher(JointState, driver.joint_state_topic, topics.RELIABLE)
        self._grip = self.create_publisher(
            JointState, str(driver.gripper["joint_state_topic"]), topics.RELIABLE
        )
        kind = import_type(driver.command_type, self._robot.name)
        self._subscription = self.create_subscription(
            kind, driver.command_topic, self._on_command, topics.RELIABLE
        )
        self._move_type = import_type(str(driver.gripper["type"]), self._robot.name)
        self._move = ActionServer(self, self._move_type, str(driver.gripper["name"]), self._on_move)
        # the default of 5 ms would let one thread keep the others waiting for that long
        sys.setswitchinterval(0.0002)
        grip_rate = float(str(driver.gripper.get("joint_state_rate", 30.0)))
        cameras = {name: self._camera(name, camera) for name, camera in contract.cameras.items()}
        self._beats = [
            Beat(self._joint_period, self._publish_joints),
            Beat(1.0 / grip_rate, self._publish_gripper),
        ]
        for name, publish in cameras.items():
            self._beats.append(Beat(1.0 / contract.cameras[name].rate, publish))
            time.sleep(self.value("camera_offset"))
        self.create_timer(0.5, self._look)

    def close(self) -> None:
        """Stop publishing and write the log."""
        for beat in self._beats:
            beat.stop()
        np.savez(
            Path(self.value("output")),
            commands=np.array(self._commands, np.int64).reshape(-1, 2),
            **{f"frames_{name}": np.array(stamps, np.int64) for name, stamps in self._stamps.items()},
        )

    def _camera(self, name: str, camera: CameraSpec) -> Any:
        """What publishes the next frame of a camera."""
        publisher = self.create_publisher(Image, camera.topic, IMAGE_QUALITY)
        frames = [bytearray(frame) for frame in prepared_frames(name, camera.width, camera.height)]
        stamps = self._stamps[name]

        def publish() -> None:
            frame = frames[len(stamps) % PREPARED]
            stamp = self.now()
            struct.pack_into("<iI", frame, STAMP_AT, *divmod(stamp, NANOSECONDS))
            stamps.append(stamp)
            publisher.publish(bytes(frame))

        return publish

    def _publish_joints(self) -> None:
        positions = self._positions
        velocities = (positions - self._sent_positions) / self._joint_period
        self._sent_positions = positions
        message = JointState(name=list(self._robot.driver.joint_names))
        message.header.stamp = to_time(self.now())
        message.position, message.velocity = doubles(positions), doubles(velocities)
        self._joints.publish(message)

    def _publish_gripper(self) -> None:
        settings = self._robot.driver.gripper
        names = [str(name) for name in settings["joint_names"]]  # type: ignore[attr-defined]
        message = JointState(name=names, position=[float(str(settings["state_at_max_width"]))] * len(names))
        message.header.stamp = to_time(self.now())
        self._grip.publish(message)

    def _on_command(self, message: Any, info: Any) -> None:
        self._commands.append((int(info["source_timestamp"]), self.now()))
        self._positions = np.array(message.cmd if hasattr(message, "cmd") else message.data)

    def _on_move(self, goal: Any) -> Any:
        goal.succeed()
        return self._move_type.Result(success=True)

    def _look(self) -> None:
        """A thread that ended in an error ends the process with it."""
        for beat in self._beats:
            if beat.error is not None:
                raise beat.error


def prepared_frames(name: str, width: int, height: int) -> list[bytes]:
    """Serialised rgb8 frames of smooth colours with noise, different from one another."""
    random = np.random.default_rng(len(name))
    y, x = np.mgrid[0:height, 0:width]
    frames = []
    for k in range(PREPARED):
        waves = [127.0 + 90.0 * np.sin(0.02 * (x + c * y) + k + c) for c in range(3)]
        rgb = np.stack(waves, axis=2) + random.normal(0.0, 5.0, (height, width, 3))
        image = CameraImage(0, np.clip(rgb, 0, 255).astype(np.uint8))
        frames.append(bytes(serialize_message(image_message(image, f"{name}_optical_frame"))))
    return frames


def main() -> int:
    """Entry point."""
    return run(Source)


if __name__ == "__main__":
    sys.exit(main())
