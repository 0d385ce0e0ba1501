"""Node `safety_controller`: chunks and joint states in, joint commands out, at a fixed rate, always limited.

The control thread owns the controller.  Callbacks only leave the newest message in a slot.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import Any

import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from std_srvs.srv import Trigger

from vla_ros import msg, srv
from vla_ros.control.controller import SafetyController
from vla_ros.control.loop import RealTimeLoop, set_priority
from vla_ros.errors import ActionError, ConfigurationError
from vla_ros.nodes import topics
from vla_ros.nodes.base import VlaLifecycleNode, run
from vla_ros.nodes.contracts import CONTRACT_PARAMETERS, contract_of
from vla_ros.nodes.conversions import to_action_chunk
from vla_ros.nodes.driver_commands import ArmCommands, GripperCommands
from vla_ros.nodes.driver_link import DriverLink, Unchecked
from vla_ros.nodes.joint_input import JointInput
from vla_ros.nodes.obstacles import to_obstacle
from vla_ros.nodes.parameters import Parameter
from vla_ros.nodes.polling import Polled, taken, unused
from vla_ros.nodes.safety_messages import SetpointMessage, StatusMessage
from vla_ros.types import NANOSECONDS, ActionChunk, JointState, SafetyState

STATUS_PERIOD = 0.05
LEAD = 0.35
"""Share of the period before a tick at which chunks are taken over."""
LATE_IN_A_ROW = 5
"""Late ticks in a row after which the robot is slowed down to rest."""
CALL_TIMEOUT = 1.0
"""Seconds a service waits for the control thread to carry a request out."""


class SafetyControllerNode(VlaLifecycleNode):
    """Wires `SafetyController` to the graph."""

    PARAMETERS = (
        *CONTRACT_PARAMETERS,
        Parameter("control_rate", 0.0, "Ticks per second [Hz]; 0: the robot's own.", 0.0, 1000.0),
        Parameter("priority", 50, "SCHED_FIFO priority of the control thread; 0: none.", 0, 99),
        Parameter("joint_state_timeout", 10.0, "Seconds to wait for joint states when activated.", 0.1, 60.0),
        Parameter("check_driver", True, "Command only a driver that says it follows (docs/drivers.md)."),
    )

    def __init__(self) -> None:
        super().__init__("safety_controller")
        self._loop: RealTimeLoop | None = None

    def configure(self) -> None:
        """Load the contract, build the controller, create publishers and services."""
        contract = contract_of(self)
        rate = self.value("control_rate") or contract.control_rate
        if not 50.0 <= rate <= 1000.0:
            raise ConfigurationError(
                f"Parameter 'control_rate' of node 'safety_controller' was given as {rate:g}, "
                "allowed is 50 to 1000."
            )
        self._robot = contract.robot
        self._period = 1.0 / rate
        self._controller = SafetyController(contract, self._period)
        self._arm = ArmCommands(self, self._robot)
        self._gripper = GripperCommands(self, self._robot)
        self._setpoint = SetpointMessage(self, self._robot.base_frame, self._robot.dof)
        self._status = StatusMessage(self, self._robot.base_frame)
        self._lock = threading.Lock()
        self._requests: deque[tuple[Any, list[Any], threading.Event]] = deque()
        self._sentences: deque[str] = deque(maxlen=20)
        self._joints = JointInput(self, self._robot, self._sentences.append)
        checked = self.value("check_driver")
        self._driver = DriverLink(self, self._robot, self._sentences.append) if checked else Unchecked()
        group = ReentrantCallbackGroup()
        self._offered = [
            self.create_service(kind, f"~/{name}", callback, callback_group=group)
            for kind, name, callback in (
                (Trigger, "emergency_stop", self._on_emergency_stop),
                (Trigger, "reset", self._on_reset),
                (Trigger, "pause", self._on_pause),
                (Trigger, "resume", self._on_resume),
                (Trigger, "recover", self._on_recover),
                (srv.MoveToJoints, "move_to_joints", self._on_move),
                (srv.SetObstacles, "set_obstacles", self._on_obstacles),
            )
        ]

    def activate(self) -> None:
        """Start the loop; the first tick with a joint state anchors the controller there."""
        self._chunk_subscription = self.create_subscription(
            msg.ActionChunk, topics.ACTION_CHUNK, unused, topics.RELIABLE, callback_group=Polled()
        )
        self._active_since = time.monotonic()
        self._anchored = False
        self._measured: JointState | None = None
        self._measured_at = 0.0
        # what has waited in the queue is old; only the gripper's opening is taken from it
        self._joints.take()
        self._cut = False
        self._driver.open()
        self._timer = self.create_timer(
            STATUS_PERIOD, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._loop = RealTimeLoop(
            self._period,
            self._tick,
            self.value("priority"),
            self._sentences.append,
            prepare=self._submit,
            lead=LEAD * self._period,
        )
        self._loop.start()
        if self.value("priority") > 1:
            # this thread holds the interpreter now and then; preempted meanwhile it would stall the loop
            set_priority(self.value("priority") - 1)

    def deactivate(self) -> None:
        """Stop the motion within the limits, then the loop."""
        if self._loop is not None:
            if self._anchored:
                self._call(lambda: self._controller.emergency_stop("deactivated"))
                deadline = time.monotonic() + 1.0
                while self._controller.state is SafetyState.STOPPING and time.monotonic() < deadline:
                    time.sleep(0.01)
            self._loop.stop()
            self._loop = None
            set_priority(0)
        self._driver.close()
        self.destroy_subscription(self._chunk_subscription)
        self.destroy_timer(self._timer)

    def cleanup(self) -> None:
        """Give everything back."""
        for service in self._offered:
            self.destroy_service(service)
        for part in (self._joints, self._driver, self._arm, self._gripper, self._setpoint, self._status):
            part.destroy(self)

    def close(self) -> None:
        """The node ends: no thread may outlive it, and its thread is no longer real-time."""
        if self._loop is not None:
            self._loop.stop()
            set_priority(0)

    # -- control thread --------------------------------------------------------------------------------------

    def _submit(self, due: float) -> None:
        """Take over what has come, before the tick is due: it costs as much as a tick and would delay it."""
        chunks = self._new_chunks()
        if not self._anchored:
            return
        for chunk in chunks:
            _, sentence = self._controller.submit(chunk, due - self._active_since, self._ros_time(due))
            if sentence:
                self._sentences.append(sentence)

    def _ros_time(self, moment: float) -> int:
        """ROS time [ns] at a near moment of the monotonic clock [s]."""
        return int(self.now() + round((moment - time.monotonic()) * NANOSECONDS))

    def _tick(self, due: float) -> None:
        # the schedule's time, not the waking's: jitter of the clock must not shake the reference
        wall = time.monotonic()
        with self._lock:
            requests = list(self._requests)
            self._requests.clear()
        states = self._joints.take()
        if states:
            self._measured, self._measured_at = states[-1], wall
            self._controller.observe(states)
        measured = self._measured
        now = self._ros_time(due)
        moment = due - self._active_since
        force = self._joints.take_force()
        if force is not None:
            self._controller.feel(force, moment)
        driver = self._driver.condition()
        self._controller.supervision.driver = driver.sentence
        if not self._anchored:
            if measured is None or not driver.ready:
                return
            self._controller.activate(measured, self._joints.width, moment)
            self._anchored = True
        for request, result, done in requests:
            result.append(request())
            done.set()
        if self._loop is not None and self._loop.late >= LATE_IN_A_ROW:
            self._controller.overrun(self._loop.late, moment)
        tick = self._controller.update(moment, now, measured, wall - self._measured_at)
        self._cut = self._cut or not driver.ready
        # a driver that comes back must not find the commands of before: it is silent until the reset
        if not self._cut:
            self._arm.send(tick.setpoint.positions)
        self._gripper.send(tick.gripper_target)
        self._setpoint.publish(tick, self._controller.executor.sequence)
        self._status.collect(tick)

    def _new_chunks(self) -> list[ActionChunk]:
        """What has come since the last tick, taken here so that no executor stands between."""
        chunks = []
        for message, _ in taken(self._chunk_subscription):
            try:
                chunks.append(to_action_chunk(message))
            except ActionError as error:
                self._sentences.append(f"chunk {message.sequence} was refused: {error}")
        return chunks

    # -- callbacks -------------------------------------------------------------------------------------------

    def _call(self, request: Any) -> Any:
        """Have the control thread carry out `request` between two ticks; None when it cannot."""
        if self._loop is None or not self._anchored:
            return None
        result: list[Any] = []
        done = threading.Event()
        with self._lock:
            self._requests.append((request, result, done))
        return result[0] if done.wait(CALL_TIMEOUT) else None

    def _answer(self, response: Any, result: Any) -> Any:
        response.success, response.message = result or (
            False,
            "the controller is not active or has no joint states",
        )
        self.get_logger().info(response.message)
        return response

    def _moment(self) -> float:
        return time.monotonic() - self._active_since

    def _on_emergency_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def stop() -> tuple[bool, str]:
            self._controller.emergency_stop("emergency stop by service")
            return True, "stopping; reset when the cause is cleared"

        return self._answer(response, self._call(stop))

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def reset() -> tuple[bool, str]:
            age = time.monotonic() - self._measured_at
            done = self._controller.reset(self._measured, self._joints.width, self._moment(), age)
            if done[0] and self._cut and self._measured is not None:
                # the driver begins again exactly where the robot stands
                self._controller.activate(self._measured, self._joints.width, self._moment())
                self._cut = False
            return done

        return self._answer(response, self._call(reset))

    def _on_pause(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, self._call(lambda: self._controller.pause(self._moment())))

    def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, self._call(lambda: self._controller.resume(self._moment())))

    async def _on_recover(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, await self._driver.recover())

    def _on_move(self, request: Any, response: Any) -> Any:
        positions = np.array(request.positions) if request.positions else self._robot.home
        width = request.gripper_width if request.gripper_width >= 0.0 else None
        return self._answer(
            response, self._call(lambda: self._controller.move_to_joints(positions, width, self._moment()))
        )

    def _on_obstacles(self, request: Any, response: Any) -> Any:
        if request.frame_id not in ("", self._robot.base_frame):
            response.message = (
                f"obstacles are in frame '{request.frame_id}', but must be in '{self._robot.base_frame}'"
            )
            return response
        try:
            # the slow part, on this thread; the control thread only takes the result over
            prepared = self._controller.environment.prepare([to_obstacle(item) for item in request.obstacles])
        except ConfigurationError as error:
            response.message = str(error)
            return response

        def surround() -> tuple[bool, str]:
            self._controller.surround(prepared)
            return True, f"{len(prepared.obstacles)} obstacle(s) around the robot"

        return self._answer(response, self._call(surround))

    def _report(self) -> None:
        """Status, diagnostics and log, off the control thread."""
        loop = self._loop
        while self._sentences:
            self.get_logger().warning(self._sentences.popleft(), throttle_duration_sec=0.5)
        if loop is None:
            return
        if loop.error is not None:
            self.get_logger().fatal(f"the control loop ended: {loop.error!r}")
            self.stop(1)
            return
        loop.wait_for_tick()
        waited = time.monotonic() - self._active_since
        if not self._anchored and waited > self.value("joint_state_timeout"):
            topic = self._robot.driver.joint_state_topic
            why = f"no joint state has come on {topic}"
            if self._measured is not None:
                why = f"the driver is not ready: {self._driver.condition().sentence}"
            self.get_logger().error(f"Nothing moves for {waited:.0f} s: {why}.", throttle_duration_sec=5.0)
        statistics = loop.statistics()
        measured = self._measured
        self._status.publish(self._controller, statistics, measured, self.now())
        delays = self._controller.executor.delays
        error = self._controller.message if self._controller.state >= SafetyState.STOPPING else ""
        self.diagnose(
            error,
            {
                "state": self._controller.state.name,
                "rate": f"{statistics.rate:.1f}",
                "overruns": statistics.overruns,
                "interventions": self._status.count,
                "chunk delay p50": f"{delays.p50:.3f} s",
                "chunk delay p95": f"{delays.p95:.3f} s",
                "first chunk delay": f"{delays.first:.3f} s",
            },
        )


def main() -> int:
    """Entry point."""
    return run(SafetyControllerNode)


if __name__ == "__main__":
    sys.exit(main())
