"""The safety controller's own messages, filled in place."""

from __future__ import annotations

import threading
from typing import Any

from vla_ros import msg
from vla_ros.control.controller import SafetyController, Tick
from vla_ros.control.loop import LoopStatistics
from vla_ros.nodes import topics
from vla_ros.nodes.conversions import pose_message, put_time, to_time, writable
from vla_ros.robots.kinematics import Kinematics
from vla_ros.types import Intervention, JointState

_MOST_LISTED = 32
"""Different interventions listed in one status; the count goes on."""


class SetpointMessage:
    """`/vla/joint_setpoint`, every tick, one message used again."""

    def __init__(self, node: Any, base_frame: str, dof: int) -> None:
        """Create the publisher; nothing is allocated afterwards."""
        self._publisher = node.create_publisher(msg.JointSetpoint, topics.JOINT_SETPOINT, topics.RELIABLE)
        self._message = msg.JointSetpoint()
        self._message.header.frame_id = base_frame
        self._positions = writable(self._message, "positions", dof)
        self._velocities = writable(self._message, "velocities", dof)
        self._accelerations = writable(self._message, "accelerations", dof)

    def publish(self, tick: Tick, sequence: int) -> None:
        """Publish one tick; `sequence` is that of the chunk in execution."""
        message, setpoint = self._message, tick.setpoint
        put_time(message.header.stamp, setpoint.stamp)
        message.tick = setpoint.tick
        self._positions[:] = setpoint.positions
        self._velocities[:] = setpoint.velocities
        self._accelerations[:] = setpoint.accelerations
        message.gripper_width = setpoint.gripper_width
        message.state = int(tick.state)
        message.chunk_sequence = sequence
        put_time(message.measured_stamp, setpoint.measured_stamp)
        put_time(message.observation_stamp, setpoint.observation_stamp)
        self._publisher.publish(message)

    def destroy(self, node: Any) -> None:
        """Give the publisher back."""
        node.destroy_publisher(self._publisher)


class StatusMessage:
    """`/vla/safety_status`: collects on the control thread, publishes from the executor."""

    def __init__(self, node: Any, base_frame: str) -> None:
        """Create the publisher."""
        self._publisher = node.create_publisher(msg.SafetyStatus, topics.SAFETY_STATUS, topics.RELIABLE)
        self._frame = base_frame
        self._lock = threading.Lock()
        self._worst: dict[tuple[int, str, str], Intervention] = {}
        self._tick: Tick | None = None
        self._kinematics: Kinematics | None = None
        self._present: set[tuple[int, str, str]] = set()
        self.count = 0
        """Interventions since activation; one that lasts for many ticks counts once."""

    def collect(self, tick: Tick) -> None:
        """Remember one tick."""
        keys = set()
        with self._lock:
            self._tick = tick
            for item in tick.interventions:
                key = (int(item.action), item.reason.value, item.subject)
                keys.add(key)
                known = self._worst.get(key)
                if known is None or abs(item.amount) > abs(known.amount):
                    self._worst[key] = item
            self.count += len(keys - self._present)
            self._present = keys

    def publish(
        self, controller: SafetyController, statistics: LoopStatistics, measured: JointState | None, now: int
    ) -> None:
        """Publish what was collected since the last time."""
        with self._lock:
            tick, worst, self._worst = self._tick, self._worst, {}
        message = msg.SafetyStatus()
        message.header.stamp, message.header.frame_id = to_time(now), self._frame
        message.state, message.message = int(controller.state), controller.message
        message.interventions = [
            msg.Intervention(
                action=int(i.action), reason=i.reason.value, subject=i.subject, amount=float(i.amount)
            )
            for i in list(worst.values())[:_MOST_LISTED]
        ]
        message.intervention_count = self.count
        message.moving = controller.moving
        message.tick, message.overruns = controller.tick, statistics.overruns
        message.rate = statistics.rate
        message.period_error_p99, message.compute_p99 = statistics.period_error_p99, statistics.compute_p99
        message.chunk_delay = controller.executor.delay
        message.chunk_sequence = controller.executor.sequence
        message.observation_stamp = to_time(controller.executor.stamp)
        delays = controller.executor.delays
        message.chunk_delay_first, message.chunk_delay_p50, message.chunk_delay_p95 = (
            delays.first, delays.p50, delays.p95,
        )  # fmt: skip
        message.driver = controller.supervision.driver
        if self._kinematics is None:
            self._kinematics = Kinematics(controller.spec)
        if tick is not None:
            pose = self._kinematics.forward(tick.setpoint.positions)
            message.reference_pose = pose_message(pose.position, pose.quaternion)
            message.gripper_width = tick.setpoint.gripper_width
        if measured is not None:
            pose = self._kinematics.forward(measured.positions)
            message.measured_pose = pose_message(pose.position, pose.quaternion)
        self._publisher.publish(message)

    def destroy(self, node: Any) -> None:
        """Give the publisher back."""
        node.destroy_publisher(self._publisher)
