"""Robot, cameras and a stream of chunks, in the bench's own process; every one of them can misbehave."""

from __future__ import annotations

import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from benchmarks.faults.record import Command, Recording, Setpoint, Status
from benchmarks.faults.ur_status import UrStatus
from benchmarks.source import STAMP_AT, Beat, prepared_frames
from vla_ros import msg
from vla_ros.contract import Contract
from vla_ros.errors import MachineError
from vla_ros.nodes import topics
from vla_ros.nodes.camera_topics import IMAGE_QUALITY
from vla_ros.nodes.conversions import action_chunk_message, to_time
from vla_ros.nodes.driver_commands import import_type
from vla_ros.robots.kinematics import Kinematics
from vla_ros.types import NANOSECONDS, ActionChunk, ActionKind, SafetyState

DEEP = QoSProfile(depth=2000, reliability=ReliabilityPolicy.RELIABLE)
CLOCK_PERIOD = 0.005
CHUNK_PERIOD, STEP, HORIZON = 0.1, 0.1, 10
RADIUS, TURN = 0.05, 3.0
"""The commanded motion: circles of this radius [m], one in so many seconds."""


class Doubles:
    """Everything around the controller.  What is `Callable` here is what a fault replaces."""

    def __init__(self, contract: Contract, clock: bool, stream: bool) -> None:
        """`clock`: ROS time is simulated; `stream`: chunks are published, else camera frames."""
        self.contract, self.robot = contract, contract.robot
        self.recording = Recording()
        self.node = rclpy.create_node("fault_bench")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.clock_offset = 0
        """Jumps of the simulated clock so far [ns]."""
        self.joint_filter: Callable[[list[JointState]], list[JointState]] = _unchanged
        """What becomes of a joint state on its way."""
        self.chunk_filter: Callable[[list[Any]], list[Any]] = _unchanged
        """What becomes of a chunk on its way."""
        self.frame_filter: Callable[[bytearray], bytearray | None] = _unchanged
        """What becomes of a camera frame on its way."""
        self._positions = np.array(self.robot.home)
        self._published = self._positions
        self._home = Kinematics(self.robot).forward(self.robot.home)
        self._sequence = 0
        self._begun = time.monotonic()
        driver = self.robot.driver
        create = self.node.create_publisher
        self._joints = create(JointState, driver.joint_state_topic, topics.RELIABLE)
        self._instruction = create(String, topics.INSTRUCTION, topics.LATCHED)
        self._clock = create(Clock, "/clock", topics.RELIABLE) if clock else None
        self._chunks = create(msg.ActionChunk, topics.ACTION_CHUNK, topics.RELIABLE)
        self.status = UrStatus(self.node)
        self.command_type = import_type(driver.command_type, self.robot.name)
        self.node.create_subscription(self.command_type, driver.command_topic, self._on_command, DEEP)
        self.node.create_subscription(msg.JointSetpoint, topics.JOINT_SETPOINT, self._on_setpoint, DEEP)
        self.node.create_subscription(msg.SafetyStatus, topics.SAFETY_STATUS, self._on_status, DEEP)
        sys.setswitchinterval(0.0002)
        self._beats = [Beat(1.0 / driver.joint_state_rate, self._speak)]
        if clock:
            self._beats.append(Beat(CLOCK_PERIOD, self._tell_time))
        if stream:
            self._beats.append(Beat(CHUNK_PERIOD, self._stream))
        else:
            self._beats += [Beat(1.0 / c.rate, self._camera(c)) for c in contract.cameras.values()]
        self._thread = threading.Thread(target=self._spin, name="doubles", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all threads."""
        for beat in self._beats:
            beat.stop()
        self._executor.shutdown(timeout_sec=1.0)
        self._thread.join(timeout=2.0)
        self.node.destroy_node()
        sys.setswitchinterval(0.005)

    def check(self) -> None:
        """Raise what ended one of the threads."""
        for beat in self._beats:
            if beat.error is not None:
                raise beat.error

    def stamp(self) -> int:
        """ROS time [ns] as the nodes under test have it."""
        if self._clock is None:
            return time.time_ns()
        return int(time.monotonic() * NANOSECONDS) + self.clock_offset

    def instruct(self, text: str) -> None:
        """Publish an instruction."""
        self._instruction.publish(String(data=text))

    def do(self, work: Callable[[], object]) -> None:
        """Do it in the spinning thread, which must not wait for what is destroyed under it."""
        done = threading.Event()
        self._executor.create_task(work).add_done_callback(lambda _: done.set())
        if not done.wait(5.0):
            raise MachineError("The thread of the doubles does not spin any more.")

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def _on_command(self, message: Any) -> None:
        positions = np.array(message.data)
        self._positions = positions
        self.recording.commands.append(Command(time.monotonic(), positions))

    def _on_setpoint(self, message: msg.JointSetpoint) -> None:
        self.recording.setpoints.append(Setpoint.of(message))

    def _on_status(self, message: msg.SafetyStatus) -> None:
        reasons = tuple(intervention.reason for intervention in message.interventions)
        self.recording.statuses.append(
            Status(time.monotonic(), SafetyState(message.state), message.message, reasons)
        )

    def _tell_time(self) -> None:
        if self._clock is not None:
            self._clock.publish(Clock(clock=to_time(self.stamp())))

    def _speak(self) -> None:
        positions, driver = self._positions, self.robot.driver
        grip = driver.gripper
        names = [*driver.joint_names, *(str(name) for name in grip["joint_names"])]  # type: ignore[attr-defined]
        velocities = (positions - self._published) * driver.joint_state_rate
        self._published = positions
        message = JointState(name=names)
        message.header.stamp = to_time(self.stamp())
        message.position = [*positions.tolist(), float(str(grip["state_at_max_width"]))]
        message.velocity = [*velocities.tolist(), 0.0]
        for one in self.joint_filter([message]):
            self._joints.publish(one)

    def _stream(self) -> None:
        self._sequence += 1
        stamp = self.stamp()
        due = time.monotonic() - self._begun + STEP * np.arange(1, HORIZON + 1)
        angle = 2.0 * np.pi * due / TURN
        circle = np.column_stack([np.zeros(HORIZON), np.sin(angle), np.cos(angle) - 1.0])
        chunk = ActionChunk(
            stamp,
            self._sequence,
            ActionKind.CARTESIAN_ABSOLUTE,
            STEP,
            np.full(HORIZON, self.robot.gripper.max_width),
            translation=self._home.position + RADIUS * circle,
            quaternion=np.tile(self._home.quaternion, (HORIZON, 1)),
        )
        for one in self.chunk_filter([action_chunk_message(chunk, self.robot.base_frame)]):
            self._chunks.publish(one)

    def _camera(self, camera: Any) -> Callable[[], None]:
        publisher = self.node.create_publisher(Image, camera.topic, IMAGE_QUALITY)
        frames = [bytearray(frame) for frame in prepared_frames(camera.name, camera.width, camera.height)]
        shown = 0

        def publish() -> None:
            nonlocal shown
            shown += 1
            frame = self.frame_filter(frames[shown % len(frames)])
            if frame is not None:
                struct.pack_into("<iI", frame, STAMP_AT, *divmod(self.stamp(), NANOSECONDS))
                publisher.publish(bytes(frame))

        return publish


def _unchanged(given: Any) -> Any:
    return given
