"""Node `teleop`: a person moves the robot, with any device, in the actions that a policy would answer."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from std_srvs.srv import Trigger

from vla_ros import msg
from vla_ros.control.loop import set_priority
from vla_ros.errors import MachineError
from vla_ros.nodes import topics
from vla_ros.nodes.base import VlaNode, run
from vla_ros.nodes.contracts import CONTRACT_PARAMETERS, contract_of
from vla_ros.nodes.conversions import policy_output_message, to_pose, to_time
from vla_ros.nodes.episode import Outcome
from vla_ros.nodes.heartbeat import Heartbeat
from vla_ros.nodes.joint_input import JointInput
from vla_ros.nodes.parameters import Parameter
from vla_ros.nodes.teleop_devices import make_device
from vla_ros.nodes.teleop_episodes import Episodes
from vla_ros.nodes.teleop_view import View
from vla_ros.policies.options import mapped_options
from vla_ros.robots.kinematics import Kinematics
from vla_ros.teleop.command import Command, Press
from vla_ros.teleop.devices import DEVICES
from vla_ros.teleop.devices.keyboard import KeyMotion
from vla_ros.teleop.devices.terminal import Terminal
from vla_ros.teleop.grid import Grid
from vla_ros.teleop.motion import LEVELS, Motion
from vla_ros.types import Source

READ_PERIOD = 0.01
"""Seconds between two readings of the device."""
REOPEN = 1.0
"""Seconds after which a device that has gone is looked for again."""
OUTCOMES = {
    Press.SUCCESS: (Outcome.SUCCESS, "The person says the task is done."),
    Press.FAILURE: (Outcome.FAILURE, "The person says the task failed."),
    Press.DISCARD: (Outcome.DISCARDED, "The person discards it."),
}


class Teleop(VlaNode):
    """Reads a device, publishes a person's actions on a regular grid, says who is in charge."""

    PARAMETERS = (
        *CONTRACT_PARAMETERS,
        Parameter("device", "keyboard", "What the person moves the robot with.", choices=DEVICES),
        Parameter("device_path", "", "File or topic of the device; empty: looked for."),
        Parameter(
            "device_options", "", "Options of the device as a YAML mapping (leader: names, signs ...)."
        ),
        Parameter("terminal", "", "Path of the terminal for keys and panel; empty: none."),
        Parameter("speed_level", 3, "Speed at the start, 1 (slow, precise) to 5.", 1, len(LEVELS)),
        Parameter("with_policy", False, "Whether a policy runs, which is in charge until taken over."),
        Parameter("task", "", "Task of the episodes, for a simulator; empty: the instruction alone."),
        Parameter("instruction", "", "Instruction of the episodes; empty: the task's own."),
        Parameter("priority", 40, "SCHED_FIFO priority, for it stands before a command; 0: none.", 0, 99),
        Parameter("seed", 0, "Seed of the first episode's scene; each further one has the next.", 0),
        Parameter(
            "dead_man_heartbeat",
            False,
            "Whether the operator's heartbeat needs the dead-man switch, not only a device that answers.",
        ),
    )

    def __init__(self) -> None:
        super().__init__("teleop")
        self._terminal: Terminal | None = None
        self._device: Any = None
        contract = self._contract = contract_of(self)
        self._kinematics = Kinematics(contract.robot)
        self._motion = Motion(contract, self.value("speed_level") - 1)
        self._grid = Grid(contract.action_space.period)
        self._joint_input = JointInput(self, contract.robot, self._complain)
        self._joints = contract.robot.home
        self._trouble, self._lost_at = "", float("-inf")
        self._engaged = False
        self._safety: msg.SafetyStatus | None = None
        self._open()
        self._keys = KeyMotion()
        self._output = self.create_publisher(msg.PolicyOutput, topics.POLICY_OUTPUT, topics.RELIABLE)
        self._authority = self.create_publisher(msg.Authority, topics.AUTHORITY, topics.LATCHED)
        self.create_subscription(msg.SafetyStatus, topics.SAFETY_STATUS, self._on_safety, topics.RELIABLE)
        self._episodes = Episodes(self, self._rest)
        self._view = View(self, self._terminal, self._device)
        self.in_charge = Source.PERSON
        self._announce(Source.POLICY if self.value("with_policy") else Source.PERSON)
        group = ReentrantCallbackGroup()
        for press in (*OUTCOMES, Press.START, Press.TAKE_OVER, Press.HAND_BACK):
            name = press.value.replace(" ", "_")
            self.create_service(Trigger, f"~/{name}", self._service(press), callback_group=group)
        Heartbeat(self, "operator", self._lives)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._read_at = time.monotonic()
        set_priority(self.value("priority"))
        self.create_timer(READ_PERIOD, self._step, clock=steady)
        self.create_timer(0.1, self._show, clock=steady)
        self.create_timer(0.5, self._report, clock=steady)

    def _open(self) -> None:
        """Terminal and device.  Raises `ConfigurationError` or `MachineError`."""
        options = mapped_options(self.value("device_options") or "{}", "Parameter 'device_options'")
        name = self.value("device")
        terminal = Terminal(self.value("terminal")) if self.value("terminal") else None
        device = make_device(
            self, name, self.value("device_path"), options, terminal, self._contract, self._measure,
            self._look,
        )  # fmt: skip
        device.open()
        if terminal is not None:
            terminal.open()
        self._terminal, self._device = terminal, device

    def close(self) -> None:
        """Give device and terminal back; the thread is no longer real-time."""
        set_priority(0)
        if self._device is not None:
            self._device.close()
        if self._terminal is not None:
            self._view.end()
            self._terminal.close()

    # What the person does.

    def _step(self) -> None:
        self._episodes.waiting.look()
        now = time.monotonic()
        seconds, self._read_at = now - self._read_at, now
        command = self._read(now)
        person = self.in_charge is Source.PERSON
        self._engaged = command.engaged and person and not self._episodes.doing
        for press in command.presses:
            self._press(press)
        if person and not self._episodes.doing:
            self._motion.add(command, seconds, self._device.dead_man)
            self._publish()
        else:
            self._motion.forget()

    def _read(self, now: float) -> Command:
        """One reading; keys of the terminal count whatever the device."""
        if self._lost_at > 0.0:
            self._look_again(now)
            if self._lost_at > 0.0:
                return Command()
        try:
            if hasattr(self._device, "episode_runs"):
                self._device.episode_runs = self._episodes.running
            command = self._device.read(now)
            if self._terminal is not None and self._device.name != "keyboard":
                keys = self._keys.take(self._terminal.read(), now)
                presses = (*command.presses, *keys.presses)
                level = command.level if keys.level is None else keys.level
                command = replace(command, presses=presses, level=level)
            return command
        except MachineError as error:
            self._lost_at = now
            self._complain(f"{error} The robot rests until it is back.")
            self._motion.forget()
            return Command()

    def _look_again(self, now: float) -> None:
        """A device that was plugged in again goes on."""
        if now - self._lost_at < REOPEN:
            return
        self._lost_at = now
        try:
            self._device.close()
            if self._terminal is not None and self._device.name == "keyboard":
                self._terminal.close()
                self._terminal.open()
            self._device.open()
            self._lost_at, self._trouble = float("-inf"), ""
            self.get_logger().warning(f"Device '{self._device.name}' is back.")
        except MachineError:
            return

    def _press(self, press: Press) -> None:
        if press in OUTCOMES:
            self._episodes.end(*OUTCOMES[press])
        elif press is Press.START:
            self._episodes.start()
        elif press is Press.TAKE_OVER:
            self.take_over()
        elif press is Press.HAND_BACK:
            self.hand_back()
        elif press is Press.ENGAGE and hasattr(self._device, "toggle"):
            self._device.toggle()
        elif press is Press.HELP:
            self._view.toggle_help()

    def take_over(self) -> tuple[bool, str]:
        """The person is in charge from now on."""
        if self.in_charge is Source.PERSON:
            return self._said(False, "The person is in charge already.")
        self._announce(Source.PERSON)
        return self._said(True, "The person is in charge.")

    def hand_back(self) -> tuple[bool, str]:
        """The policy is in charge from now on."""
        if not self.value("with_policy"):
            return self._said(False, "No policy runs that could be handed back to.")
        if self.in_charge is Source.POLICY:
            return self._said(False, "The policy is in charge already.")
        if hasattr(self._device, "let_go"):
            self._device.let_go()
        self._announce(Source.POLICY)
        return self._said(True, "The policy is in charge.")

    def _said(self, done: bool, sentence: str) -> tuple[bool, str]:
        self._view.note = "" if done else sentence
        self.get_logger().info(sentence)
        return done, sentence

    def _announce(self, source: Source) -> None:
        self.in_charge = source
        message = msg.Authority(source=int(source), device=self._device.name)
        if source is Source.POLICY:
            message.device = ""
        message.header.stamp = to_time(self.now())
        self._authority.publish(message)
        self._rest()

    def _service(self, press: Press) -> Any:
        async def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            if press is Press.TAKE_OVER:
                result = self.take_over()
            elif press is Press.HAND_BACK:
                result = self.hand_back()
            elif press is Press.START:
                result = await self._episodes.start_and_wait()
            else:
                result = await self._episodes.end_and_wait(*OUTCOMES[press])
            response.success, response.message = result
            return response

        return answer

    # What goes out.

    def _rest(self) -> None:
        """The stream of actions ends; the next one begins where the robot is asked to be then."""
        self._grid.stop()
        self._motion.forget()

    def _publish(self) -> None:
        """The action that is due, if any.

        In an episode there is one every period; outside only while the robot is moved, so that nothing
        keeps it from being brought home.
        """
        wanted = self._episodes.running or self._motion.moving
        if not self._grid.runs:
            if not wanted or self._safety is None:
                return
            self._anchor()
            self._grid.start(self.now())
        stamp = self._grid.due(self.now())
        if stamp is None:
            return
        if not wanted:
            self._grid.stop()
            return
        measured = self._kinematics.forward(self._measure())
        output = self._motion.action(stamp, self._grid.count, measured)
        message = policy_output_message(output, self._device.name, self._episodes.instruction)
        message.published = to_time(self.now())
        self._output.publish(message)
        self._view.actions += 1

    def _anchor(self) -> None:
        """Actions count from what the robot is asked for now."""
        status = self._safety
        joints = self._measure()
        self._motion.anchor(to_pose(status.reference_pose), joints, self._settled_width(status.gripper_width))

    def _settled_width(self, width: float) -> float:
        """The opening that the gripper is on its way to, as far as can be told [m]."""
        gripper = self._contract.robot.gripper
        convention = self._contract.action_space.gripper
        middle = 0.5 * (gripper.min_width + gripper.max_width)
        end = gripper.max_width if width > middle else gripper.min_width
        whole = convention.binarize or convention.relative
        return end if whole or abs(width - end) < 0.1 * (gripper.max_width - gripper.min_width) else width

    def _measure(self) -> Any:
        states = self._joint_input.take()
        if states:
            self._joints = states[-1].positions
        return self._joints

    def _look(self) -> Any:
        """What a scripted expert sees of the robot; None while it is not its turn."""
        from vla_ros.sim.expert import View

        mine = self.in_charge is Source.PERSON and self._episodes.running and not self._episodes.doing
        if not mine or self._safety is None:
            return None
        measured = self._kinematics.forward(self._measure())
        return View(measured, to_pose(self._safety.reference_pose), self._joint_input.width)

    def _on_safety(self, message: msg.SafetyStatus) -> None:
        self._safety = message
        self._view.on_safety(message)

    def _lives(self) -> bool:
        return self._lost_at < 0.0 and (self._engaged or not self.value("dead_man_heartbeat"))

    # What is shown.

    def _complain(self, sentence: str) -> None:
        self._trouble = sentence
        self.get_logger().error(sentence, throttle_duration_sec=2.0)

    def _problem(self) -> str:
        return self._trouble or getattr(self._device, "trouble", "") or self._episodes.trouble

    def _show(self) -> None:
        self._view.draw(
            self.in_charge, self._engaged, self._motion, self._episodes.status, self._problem(),
            self._episodes.doing,
        )  # fmt: skip

    def _report(self) -> None:
        self._measure()
        self.diagnose(
            self._trouble,
            {
                "in charge": self.in_charge.name.lower(),
                "device": self._device.name,
                "engaged": self._engaged,
                "actions": self._view.actions,
                "skipped": self._grid.skipped,
            },
        )


def main() -> int:
    """Entry point."""
    return run(Teleop)


if __name__ == "__main__":
    sys.exit(main())
