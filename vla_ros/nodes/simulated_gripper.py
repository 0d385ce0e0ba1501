"""The gripper interfaces of the real drivers, in front of the simulated gripper.

Message packages of a driver are imported only when that driver is simulated.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.node import Node
from sensor_msgs.msg import JointState as JointStateMessage

from vla_ros.errors import ActionError, ConfigurationError
from vla_ros.nodes import topics
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.reports import reported_position
from vla_ros.sim.world import World

REACHED = 0.002
"""Within this of its goal the gripper has arrived [m]."""
MOVE_TOLERANCE = 0.005
"""Opening error with which a Franka `Move` still counts as done [m]."""
STILL_SPEED = 0.002
STILL_TIME = 0.15
LOOK_PERIOD = 0.05
TIMEOUT = 5.0


class Gripper(Protocol):
    """A driver's gripper interface; commands reach the world by themselves."""

    def close(self) -> None:
        """Take the interface down."""
        ...


def commanded_width(spec: RobotSpec, position: float) -> float:
    """Opening width [m] for a position commanded in the unit of the driver's gripper joint."""
    closed, opened = (float(str(spec.driver.gripper[f"state_at_{end}_width"])) for end in ("min", "max"))
    share = (position - closed) / (opened - closed)
    return spec.gripper.min_width + share * (spec.gripper.max_width - spec.gripper.min_width)


@dataclass(frozen=True)
class Command:
    """An opening width [m] with its force [N] and speed [m/s]; None stands for the gripper's own."""

    width: float
    force: float | None = None
    speed: float | None = None


@dataclass
class _Motion:
    handle: Any
    command: Command
    begun: float
    still_since: float | None = None
    reached: bool = False
    stalled: bool = False
    preempted: bool = False


class ActionGripper:
    """Action servers whose goals end when the fingers arrive or stall.

    A goal stays accepted while the fingers move and is executed, with its result, at the end: the executor is
    never blocked and nothing waits in a loop.
    """

    def __init__(self, node: Node, world: World, lock: threading.Lock) -> None:
        self._node = node
        self._world = world
        self._lock = lock
        self._motion: _Motion | None = None
        self._servers: list[ActionServer] = []
        self._timer = node.create_timer(LOOK_PERIOD, self._look)

    def serve(
        self,
        kind: Any,
        name: str,
        command: Callable[[Any], Command],
        result: Callable[[Any, _Motion, float], tuple[bool, Any]],
    ) -> None:
        """Add a server; `command` reads a goal request, `result` answers (succeeded, result message)."""

        def accept(request: Any) -> GoalResponse:
            try:
                self._begin(command(request))
            except ActionError as error:
                self._node.get_logger().error(f"{name}: {error}")
                return GoalResponse.REJECT
            return GoalResponse.ACCEPT

        def started(handle: Any) -> None:
            self._motion = _Motion(handle, command(handle.request), time.monotonic())

        def execute(handle: Any) -> Any:
            motion = self._finished
            with self._lock:
                width = self._world.gripper_width()
            succeeded, message = result(handle.request, motion, width)
            if handle.is_cancel_requested:
                handle.canceled()
            elif succeeded and not motion.preempted:
                handle.succeed()
            else:
                handle.abort()
            return message

        self._servers.append(
            ActionServer(
                self._node,
                kind,
                name,
                execute_callback=execute,
                goal_callback=accept,
                handle_accepted_callback=started,
                cancel_callback=lambda handle: CancelResponse.ACCEPT,
            )
        )

    def _begin(self, command: Command) -> None:
        with self._lock:
            self._world.set_gripper(command.width, command.force, command.speed)
        if self._motion is not None:
            self._motion.preempted = True
            self._finish()

    def _look(self) -> None:
        motion = self._motion
        if motion is None:
            return
        now = time.monotonic()
        with self._lock:
            width, speed = self._world.gripper_width(), self._world.gripper_speed()
        if motion.handle.is_cancel_requested:
            with self._lock:
                self._world.set_gripper(width)
            self._finish()
            return
        still = abs(speed) < STILL_SPEED and now - motion.begun > STILL_TIME
        motion.still_since = (motion.still_since or now) if still else None
        motion.reached = abs(width - motion.command.width) < REACHED
        motion.stalled = (
            not motion.reached and motion.still_since is not None and now - motion.still_since > STILL_TIME
        )
        if motion.reached or motion.stalled or now - motion.begun > TIMEOUT:
            self._finish()

    def _finish(self) -> None:
        motion, self._motion = self._motion, None
        if motion is not None:
            self._finished = motion
            motion.handle.execute()

    def close(self) -> None:
        """Destroy the servers."""
        self._node.destroy_timer(self._timer)
        for server in self._servers:
            server.destroy()


class FrankaGripper(ActionGripper):
    """franka_gripper: actions Move and Grasp."""

    def __init__(self, node: Node, spec: RobotSpec, world: World, lock: threading.Lock) -> None:
        from franka_msgs.action import Grasp, Move

        super().__init__(node, world, lock)

        def moved(goal: Any, motion: _Motion, width: float) -> tuple[bool, Any]:
            done = abs(width - goal.width) <= MOVE_TOLERANCE
            return done, Move.Result(
                success=done, error="" if done else f"The fingers stand at {width:.4f} m."
            )

        def grasped(goal: Any, motion: _Motion, width: float) -> tuple[bool, Any]:
            done = goal.width - goal.epsilon.inner <= width <= goal.width + goal.epsilon.outer
            return done, Grasp.Result(
                success=done, error="" if done else f"The fingers stand at {width:.4f} m."
            )

        gripper = spec.driver.gripper
        self.serve(Move, str(gripper["name"]), lambda goal: Command(goal.width, None, goal.speed), moved)
        if "grasp_name" not in gripper:
            return
        # A grasp closes with force until the object stops it; its width only says what is expected.
        self.serve(
            Grasp,
            str(gripper["grasp_name"]),
            lambda goal: Command(spec.gripper.min_width, goal.force, goal.speed),
            grasped,
        )


class RobotiqGripper(ActionGripper):
    """ros2_robotiq_gripper: one ParallelGripperCommand action in knuckle angles."""

    def __init__(self, node: Node, spec: RobotSpec, world: World, lock: threading.Lock) -> None:
        from control_msgs.action import ParallelGripperCommand

        super().__init__(node, world, lock)
        names = list(spec.driver.gripper["joint_names"])  # type: ignore[call-overload]

        def command(goal: Any) -> Command:
            if len(goal.command.position) != 1:
                raise ActionError(
                    f"The gripper command has {len(goal.command.position)} positions; "
                    f"one is needed, of {names[0]}."
                )
            effort = goal.command.effort[0] if len(goal.command.effort) else None
            return Command(commanded_width(spec, goal.command.position[0]), effort)

        def result(goal: Any, motion: _Motion, width: float) -> tuple[bool, Any]:
            state = JointStateMessage(name=names[:1], position=[reported_position(spec, width)])
            answer = ParallelGripperCommand.Result(state=state)
            answer.stalled, answer.reached_goal = motion.stalled, motion.reached
            return motion.stalled or motion.reached, answer

        self.serve(ParallelGripperCommand, str(spec.driver.gripper["name"]), command, result)


class CommandGripper(ActionGripper):
    """ros2_controllers' position_controllers/GripperActionController: one GripperCommand action."""

    def __init__(self, node: Node, spec: RobotSpec, world: World, lock: threading.Lock) -> None:
        from control_msgs.action import GripperCommand

        super().__init__(node, world, lock)

        def command(goal: Any) -> Command:
            effort = goal.command.max_effort
            # no largest effort means as much as there is
            return Command(commanded_width(spec, goal.command.position), effort if effort > 0.0 else None)

        def result(goal: Any, motion: _Motion, width: float) -> tuple[bool, Any]:
            answer = GripperCommand.Result(position=reported_position(spec, width))
            answer.stalled, answer.reached_goal = motion.stalled, motion.reached
            return motion.stalled or motion.reached, answer

        self.serve(GripperCommand, str(spec.driver.gripper["name"]), command, result)


class InterbotixGripper:
    """interbotix_xs_sdk: JointSingleCommand in linear position mode."""

    def __init__(self, node: Node, spec: RobotSpec, world: World, lock: threading.Lock) -> None:
        from interbotix_xs_msgs.msg import JointSingleCommand

        gripper = spec.driver.gripper
        joint = str(gripper.get("command_joint", "gripper"))

        def take(message: Any) -> None:
            if message.name != joint:
                node.get_logger().warning(
                    f"{gripper['name']}: a command for joint '{message.name}' was ignored; "
                    f"the gripper is '{joint}'.",
                    throttle_duration_sec=5.0,
                )
                return
            try:
                with lock:
                    world.set_gripper(commanded_width(spec, message.cmd))
            except ActionError as error:
                node.get_logger().error(f"{gripper['name']}: {error}", throttle_duration_sec=5.0)

        self._node = node
        self._subscription = node.create_subscription(
            JointSingleCommand, str(gripper["name"]), take, topics.RELIABLE
        )

    def close(self) -> None:
        """Take the subscription down."""
        self._node.destroy_subscription(self._subscription)


_GRIPPERS: dict[str, Callable[[Node, RobotSpec, World, threading.Lock], Gripper]] = {
    "franka_msgs/action/Move": FrankaGripper,
    "control_msgs/action/ParallelGripperCommand": RobotiqGripper,
    "control_msgs/action/GripperCommand": CommandGripper,
    "interbotix_xs_msgs/JointSingleCommand": InterbotixGripper,
}
"""By the type of the gripper interface, the key `driver.gripper.type` of the robot's description."""


def make_gripper(node: Node, spec: RobotSpec, world: World, lock: threading.Lock) -> Gripper:
    """A robot's gripper interface.  Raises `ConfigurationError` when the driver's messages are missing."""
    try:
        return _GRIPPERS[str(spec.driver.gripper["type"])](node, spec, world, lock)
    except ImportError as error:
        raise ConfigurationError(
            f"The message package of the gripper of '{spec.name}' is missing ({error}); "
            "run 'make env' or install it."
        ) from error
