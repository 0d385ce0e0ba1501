"""The topics of the real drivers around the simulated robot: commands in, joint states and wrench out."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from geometry_msgs.msg import WrenchStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState as JointStateMessage
from std_msgs.msg import Float64MultiArray

from vla_ros.errors import ActionError, ConfigurationError
from vla_ros.nodes import topics
from vla_ros.nodes.conversions import doubles, to_time
from vla_ros.nodes.polling import Polled, taken, unused
from vla_ros.nodes.simulated_gripper import make_gripper
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.realtime import Sample
from vla_ros.sim.reports import Report, arm_report, gripper_report, own_gripper_topic
from vla_ros.sim.world import World

WRENCH_TOPIC = "/simulator/wrench"
"""Where the driver has no wrench topic of its own."""
WRENCH_RATE = 100.0
COMMANDS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
"""Deep: a command that a stalled process drops would look to the double like a leap of the controller."""


class DriverTopics:
    """What the robot's driver subscribes to and publishes."""

    def __init__(self, node: Node, spec: RobotSpec, world: World, lock: threading.Lock) -> None:
        """Raises `ConfigurationError` when the driver's message package is missing."""
        self._node = node
        self._spec = spec
        self._world = world
        self._lock = lock
        driver = spec.driver
        self.commands = 0
        self._joints = node.create_publisher(JointStateMessage, driver.joint_state_topic, topics.RELIABLE)
        self._grip = (
            node.create_publisher(
                JointStateMessage, str(driver.gripper["joint_state_topic"]), topics.RELIABLE
            )
            if own_gripper_topic(spec)
            else None
        )
        self._wrench = node.create_publisher(
            WrenchStamped, str(driver.extra.get("wrench_topic", WRENCH_TOPIC)), topics.RELIABLE
        )
        rate = spec.simulated_joint_state_rate
        self._grip_every = max(1, round(rate / float(str(driver.gripper.get("joint_state_rate", rate)))))
        self._wrench_every = max(1, round(rate / WRENCH_RATE))
        self._count = 0
        self._flange = world.model.body(world.model.site("flange").bodyid[0]).name
        self._gripper = make_gripper(node, spec, world, lock)
        self._commands = self._subscribe()

    def _subscribe(self) -> Any:
        """Polled by the physics thread: commands never wait for an executor that has something else to do."""
        driver = self._spec.driver
        self._group = ""
        kind: Any = Float64MultiArray
        if driver.command_type != "std_msgs/Float64MultiArray":
            try:
                from interbotix_xs_msgs.msg import JointGroupCommand
            except ImportError as error:
                raise ConfigurationError(
                    f"The message package of the driver of '{self._spec.name}' is missing ({error}); "
                    "run 'make env' or install it."
                ) from error
            self._group = str(driver.extra.get("group", "arm"))
            kind = JointGroupCommand
        return self._node.create_subscription(
            kind, driver.command_topic, unused, COMMANDS, callback_group=Polled()
        )

    def take_commands(self) -> None:
        """Hand every command that has come to the driver; called from the physics thread before a batch."""
        for message, _ in taken(self._commands):
            if not self._group:
                self._command(message.data)
            elif message.name == self._group:
                self._command(message.cmd)
            else:
                self._complain(
                    f"a command for group '{message.name}' was ignored; the arm is group '{self._group}'."
                )

    def _command(self, positions: Any) -> None:
        try:
            with self._lock:
                self._world.set_joint_command(np.array(positions, dtype=np.float64))
        except ActionError as error:
            self._complain(f"{error}  It was ignored.")
            return
        self.commands += 1

    def _complain(self, what: str) -> None:
        self._node.get_logger().error(f"{self._spec.driver.command_topic}: {what}", throttle_duration_sec=2.0)

    def publish(self, sample: Sample, stamp: int) -> None:
        """Publish a sample; called from the physics thread at the joint-state rate."""
        time = to_time(stamp)
        self._joints.publish(_joint_state(time, arm_report(self._spec, sample)))
        if self._grip is not None and self._count % self._grip_every == 0:
            self._grip.publish(_joint_state(time, gripper_report(self._spec, sample)))
        if self._count % self._wrench_every == 0:
            message = WrenchStamped()
            message.header.stamp, message.header.frame_id = time, self._flange
            force, torque = message.wrench.force, message.wrench.torque
            force.x, force.y, force.z, torque.x, torque.y, torque.z = (
                float(value) for value in sample.wrench
            )
            self._wrench.publish(message)
        self._count += 1

    def close(self) -> None:
        """Take the gripper interface down."""
        self._gripper.close()


def _joint_state(time: Any, report: Report) -> JointStateMessage:
    names, state = report
    message = JointStateMessage(name=list(names))
    message.header.stamp = time
    message.position, message.velocity, message.effort = (doubles(values) for values in state)
    return message
