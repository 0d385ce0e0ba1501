"""Node `safety_controller`: chunks and joint states in, joint commands out, at a fixed rate, always limited.

The control thread owns the controller; the node offers the services, says what happens and watches who else
speaks to the driver.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from std_srvs.srv import Trigger

from vla_ros import msg, srv
from vla_ros.bounds import MAX_NAME, plain
from vla_ros.control.controller import PERSON, WATCHDOG
from vla_ros.errors import ConfigurationError
from vla_ros.nodes import topics
from vla_ros.nodes.base import VlaLifecycleNode, run
from vla_ros.nodes.contracts import CONTRACT_PARAMETERS, contract_of
from vla_ros.nodes.control_thread import AT_REST, ControlThread
from vla_ros.nodes.conversions import action_prefix_message
from vla_ros.nodes.obstacles import to_obstacle
from vla_ros.nodes.parameters import Parameter
from vla_ros.robots.environment import MOST_OBSTACLES
from vla_ros.types import Reason, SafetyState

STATUS_PERIOD = 0.05


class SafetyControllerNode(VlaLifecycleNode):
    """Wires `SafetyController` to the graph."""

    PARAMETERS = (
        *CONTRACT_PARAMETERS,
        Parameter("control_rate", 0.0, "Ticks per second [Hz]; 0: the robot's own.", 0.0, 1000.0),
        Parameter("priority", 50, "SCHED_FIFO priority of the control thread; 0: none.", 0, 99),
        Parameter("joint_state_timeout", 10.0, "Seconds to wait for joint states when activated.", 0.1, 60.0),
        Parameter(
            "watchdog_timeout",
            1.0,
            "Silence of a watchdog that was there once, after which the robot holds [s]; "
            "0: it is not listened to.",
            0.0,
            60.0,
        ),
        Parameter("check_driver", True, "Command only a driver that says it follows (docs/drivers.md)."),
        Parameter(
            "follow_clock",
            False,
            "Tick on /clock, that of a simulation that may be slow, fast or stand still; needs use_sim_time.",
        ),
    )

    def __init__(self) -> None:
        super().__init__("safety_controller")
        self._control: ControlThread | None = None

    def configure(self) -> None:
        """Load the contract, build the controller, create publishers and services."""
        contract = contract_of(self)
        rate = self.value("control_rate") or contract.control_rate
        if not 50.0 <= rate <= 1000.0:
            raise ConfigurationError(
                f"Parameter 'control_rate' of node 'safety_controller' was given as {rate:g}, "
                "allowed is 50 to 1000."
            )
        follow = self.value("follow_clock")
        if follow and not (self.value("simulated") and self.value("use_sim_time")):
            raise ConfigurationError(
                "Parameter 'follow_clock' of node 'safety_controller' is set, but a real robot is controlled "
                "on this machine's clock; allowed is that with 'simulated' and 'use_sim_time' only."
            )
        self._robot = contract.robot
        self._control = ControlThread(
            self, contract, 1.0 / rate, self.value("check_driver"), self.value("watchdog_timeout"), follow
        )
        self._prefix = None
        if self._control.controller.executor.blending.commits:
            self._prefix = self.create_publisher(msg.ActionPrefix, topics.ACTION_PREFIX, topics.NEWEST)
            told = self.create_guard_condition(self._publish_prefix)
            self._control.on_chunk = told.trigger
        group = ReentrantCallbackGroup()
        self._offered = [
            self.create_service(kind, f"~/{name}", callback, callback_group=group)
            for kind, name, callback in (
                (Trigger, "emergency_stop", self._on_emergency_stop),
                (Trigger, "reset", self._on_reset),
                (Trigger, "pause", self._on_pause),
                (Trigger, "resume", self._on_resume),
                (Trigger, "watchdog_pause", self._on_watchdog_pause),
                (Trigger, "watchdog_resume", self._on_watchdog_resume),
                (Trigger, "recover", self._on_recover),
                (srv.MoveToJoints, "move_to_joints", self._on_move),
                (srv.SetObstacles, "set_obstacles", self._on_obstacles),
            )
        ]

    def activate(self) -> None:
        """Start the control thread."""
        self._control.open(self.value("priority"))
        self._timer = self.create_timer(
            STATUS_PERIOD, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def deactivate(self) -> None:
        """Stop the motion within the limits, then the control thread."""
        self._control.close()
        self.destroy_timer(self._timer)

    def cleanup(self) -> None:
        """Give everything back."""
        for service in self._offered:
            self.destroy_service(service)
        self._control.destroy()
        if self._prefix is not None:
            self.destroy_publisher(self._prefix)

    def close(self) -> None:
        """The node ends, whatever ended it: the robot comes to rest first, and no thread outlives it."""
        if self._control is not None:
            if self._control.brake("the safety controller's process ends"):
                self._report()
                time.sleep(AT_REST)
            self._control.end()

    # -- services --------------------------------------------------------------------------------------------

    def _answer(self, response: Any, result: Any) -> Any:
        response.success, response.message = result or (
            False,
            "the controller is not active or has no joint states",
        )
        self.get_logger().info(response.message)
        return response

    def _on_emergency_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def stop() -> tuple[bool, str]:
            self._control.controller.emergency_stop("emergency stop by service")
            return True, "stopping; reset when the cause is cleared"

        return self._answer(response, self._control.call(stop))

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, self._control.call(self._control.reset))

    def _on_pause(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._pause(response, PERSON)

    def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._resume(response, PERSON)

    def _on_watchdog_pause(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._pause(response, WATCHDOG)

    def _on_watchdog_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._resume(response, WATCHDOG)

    def _pause(self, response: Trigger.Response, who: str) -> Trigger.Response:
        control = self._control
        return self._answer(response, control.call(lambda: control.controller.pause(control.moment(), who)))

    def _resume(self, response: Trigger.Response, who: str) -> Trigger.Response:
        control = self._control
        return self._answer(response, control.call(lambda: control.controller.resume(control.moment(), who)))

    async def _on_recover(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, await self._control.driver.recover())

    def _on_move(self, request: Any, response: Any) -> Any:
        positions = np.array(request.positions) if request.positions else self._robot.home
        width = request.gripper_width if request.gripper_width >= 0.0 else None
        control = self._control

        def move() -> tuple[bool, str]:
            return control.controller.move_to_joints(positions, width, control.moment())

        return self._answer(response, control.call(move))

    def _on_obstacles(self, request: Any, response: Any) -> Any:
        if request.frame_id not in ("", self._robot.base_frame):
            given = plain(request.frame_id, MAX_NAME)
            response.message = f"obstacles are in frame '{given}', but must be in '{self._robot.base_frame}'"
            return response
        if len(request.obstacles) > MOST_OBSTACLES:  # before they are looked at one by one
            response.message = f"{len(request.obstacles)} obstacles were given, allowed are {MOST_OBSTACLES}"
            return response
        controller = self._control.controller
        try:
            # the slow part, on this thread; the control thread only takes the result over
            prepared = controller.environment.prepare([to_obstacle(item) for item in request.obstacles])
        except ConfigurationError as error:
            response.message = str(error)
            return response

        def surround() -> tuple[bool, str]:
            controller.surround(prepared)
            return True, f"{len(prepared.obstacles)} obstacle(s) around the robot"

        return self._answer(response, self._control.call(surround))

    # -- reports ---------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Status, diagnostics and log, off the control thread."""
        control = self._control
        while control.sentences:
            self.get_logger().warning(control.sentences.popleft(), throttle_duration_sec=0.5)
        loop = control.loop
        if loop is None:
            return
        if loop.error is not None:
            self.get_logger().fatal(f"the control loop ended: {loop.error!r}")
            self.stop(1)
            return
        loop.wait_for_tick()
        self._publish_prefix()
        self._say_why_nothing_moves()
        self._look_for_others()
        statistics, controller = loop.statistics(), control.controller
        control.status.publish(controller, statistics, control.measured, self.now())
        delays = controller.executor.delays
        error = controller.message if controller.state >= SafetyState.STOPPING else ""
        self.diagnose(
            error,
            {
                "state": controller.state.name,
                "rate": f"{statistics.rate:.1f}",
                "overruns": statistics.overruns,
                "interventions": control.status.count,
                "chunk delay p50": f"{delays.p50:.3f} s",
                "chunk delay p95": f"{delays.p95:.3f} s",
                "first chunk delay": f"{delays.first:.3f} s",
            },
        )

    def _publish_prefix(self) -> None:
        """What the robot will be asked for next, for a policy that conditions on it."""
        control = self._control
        if self._prefix is None or control.loop is None or not control.anchored:
            return
        executor = control.controller.executor
        upcoming = executor.upcoming(control.moment())
        if upcoming is not None:
            frame, delay = self._robot.base_frame, executor.delays.p95
            self._prefix.publish(action_prefix_message(upcoming, self.now(), delay, frame))

    def _say_why_nothing_moves(self) -> None:
        control, waited = self._control, self._control.moment()
        if control.anchored or waited <= self.value("joint_state_timeout"):
            return
        why = f"no joint state has come on {self._robot.driver.joint_state_topic}"
        if control.objection:
            why = control.objection
        elif control.measured is not None:
            why = f"the driver is not ready: {control.driver.condition().sentence}"
        self.get_logger().error(f"Nothing moves for {waited:.0f} s: {why}.", throttle_duration_sec=5.0)

    def _look_for_others(self) -> None:
        """Stop when somebody else commands the arm, whoever it is."""
        sentence = self._control.foreign.look()
        if sentence:
            stop = self._control.controller.stop
            self._control.call(lambda: stop(Reason.FOREIGN_COMMANDS, "driver", sentence))


def main() -> int:
    """Entry point."""
    return run(SafetyControllerNode)


if __name__ == "__main__":
    sys.exit(main())
