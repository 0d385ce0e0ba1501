"""Node `supervisor`: starts, watches and ends episodes."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from std_msgs.msg import String

from vla_ros import msg
from vla_ros.action import ExecuteInstruction
from vla_ros.errors import VlaRosError
from vla_ros.execution.authority import Authority
from vla_ros.instruction import parse_instruction
from vla_ros.nodes import topics
from vla_ros.nodes.base import VlaNode, run
from vla_ros.nodes.conversions import to_stamp
from vla_ros.nodes.episode import Episode, Outcome, Rules
from vla_ros.nodes.parameters import Parameter
from vla_ros.nodes.preparation import EpisodeError, Preparation
from vla_ros.nodes.waiting import Waiting
from vla_ros.sim.tasks import resolve_goal
from vla_ros.srv import SetInstruction, StartEpisode, StopEpisode
from vla_ros.types import NANOSECONDS, SafetyState, Source

PIPELINE = ("ingester", "inference", "chunker")
"""Nodes whose diagnostics can end an episode."""
NOT_UP = 2
"""Exit status when there is an instruction to start with, but the graph does not come up."""


class Supervisor(VlaNode):
    """One episode at a time: home, scene, instruction, watching, one sentence at the end."""

    PARAMETERS = (
        Parameter("simulator", True, "Whether a simulator resets the scene and judges."),
        Parameter("home_first", True, "Whether the robot goes home, gripper open, before an episode."),
        Parameter(
            "home_gripper_width", -1.0, "Opening of the gripper at home [m]; negative: as it is.", -1.0, 1.0
        ),
        Parameter("timeout", 60.0, "Longest episode [s]; 0: no limit.", 0.0, 86400.0, read_only=False),
        Parameter("patience", 1.5, "Errors that last longer end an episode [s].", 0.1, 600.0),
        Parameter("first_answer", 10.0, "Time the policy has for its first answer [s].", 0.5, 3600.0),
        Parameter("instruction", "", "Instruction to start with, once the graph is up; empty: wait for one."),
        Parameter("up_patience", 180.0, "The graph has so long to come up for that [s].", 0.5, 3600.0),
        Parameter("tabletop", False, "Whether the policy understands the grammar of tabletop tasks only."),
        Parameter("episode_prefix", "episode", "Beginning of the episodes' names."),
    )

    def __init__(self) -> None:
        super().__init__("supervisor")
        self._episode: Episode | None = None
        self._judge_id = ""
        self._busy = False
        self._announced = False
        """Whether the end of the episode was made known."""
        self._count = 0
        self._safety: msg.SafetyStatus | None = None
        self._authority = Authority()
        self._instruction = self.create_publisher(String, topics.INSTRUCTION, topics.LATCHED)
        self._status = self.create_publisher(msg.EpisodeStatus, topics.EPISODE_STATUS, topics.RELIABLE)
        self._waiting = Waiting()
        self._preparation = Preparation(self, self._waiting)
        for kind, topic, callback in (
            (msg.SafetyStatus, topics.SAFETY_STATUS, self._on_safety),
            (msg.PolicyOutput, topics.POLICY_OUTPUT, self._on_output),
            (msg.EpisodeStatus, topics.SIMULATOR_STATUS, self._on_verdict),
            (DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics),
        ):
            self.create_subscription(kind, topic, callback, topics.RELIABLE)
        self.create_subscription(msg.Authority, topics.AUTHORITY, self._on_authority, topics.LATCHED)
        # these await what timers and subscriptions tell, which a shared exclusive group would hold back
        waiting = ReentrantCallbackGroup()
        for service, name, answer in (
            (StartEpisode, "start_episode", self._on_start),
            (StopEpisode, "stop_episode", self._on_stop),
            (SetInstruction, "set_instruction", self._on_set_instruction),
        ):
            self.create_service(service, f"~/{name}", answer, callback_group=waiting)
        self._action = ActionServer(
            self,
            ExecuteInstruction,
            "~/execute_instruction",
            self._execute,
            goal_callback=lambda goal: GoalResponse.REJECT if self._running else GoalResponse.ACCEPT,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            callback_group=waiting,
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.02, self._look, clock=steady)
        self.create_timer(0.1, self._publish_status, clock=steady)
        self._first = self.create_timer(0.1, self._start_by_itself, waiting, clock=steady)

    @property
    def _running(self) -> bool:
        return self._busy or (self._episode is not None and self._episode.outcome is Outcome.RUNNING)

    def _seconds(self) -> float:
        return self.now() / NANOSECONDS

    # What comes in.

    def _on_safety(self, message: msg.SafetyStatus) -> None:
        self._safety = message
        self._preparation.on_moving(message.moving)
        if self._episode is not None:
            state = SafetyState(message.state)
            self._episode.on_safety(self._seconds(), state, message.message, message.intervention_count)
            self._look()

    def _on_output(self, message: msg.PolicyOutput) -> None:
        episode = self._episode
        if episode is None or message.instruction != episode.instruction:
            return
        if not message.error and not self._authority.allows(
            Source(message.source), to_stamp(message.header.stamp)
        ):
            return
        if message.error:
            # with a person in charge nobody waits for the policy
            if self._authority.source is Source(message.source):
                episode.on_trouble(self._seconds(), "policy", message.error)
        else:
            episode.on_answer(self._seconds(), message.terminate)

    def _on_authority(self, message: msg.Authority) -> None:
        source = Source(message.source)
        if self._authority.announce(source, to_stamp(message.header.stamp), message.device):
            if self._episode is not None:
                self._episode.on_authority(self._seconds())
            who = f"a person with {message.device}" if source is Source.PERSON else "the policy"
            self.get_logger().info(f"In charge: {who}.")

    def _on_verdict(self, message: msg.EpisodeStatus) -> None:
        if self._episode is not None and message.episode_id == self._judge_id and self._episode.judged:
            self._episode.on_verdict(self._seconds(), Outcome(message.outcome), message.reason)
            self._look()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        if self._episode is None or to_stamp(message.header.stamp) < self._episode.started * NANOSECONDS:
            return
        for status in message.status:
            if status.name in PIPELINE:
                wrong = status.level == DiagnosticStatus.ERROR
                if status.name == "inference" and self._authority.source is Source.PERSON:
                    continue
                self._episode.on_trouble(self._seconds(), status.name, status.message if wrong else "")

    # What is asked for.

    async def _on_start(
        self, request: StartEpisode.Request, response: StartEpisode.Response
    ) -> StartEpisode.Response:
        try:
            rules = self._rules(self.value("timeout"))
            episode = await self._start(request.task, request.instruction, request.seed, rules)
            response.success = True
            response.episode_id, response.instruction = episode.episode_id, episode.instruction
        except EpisodeError as error:
            self.get_logger().error(str(error))
            response.message = str(error)
        return response

    def _on_stop(self, request: StopEpisode.Request, response: StopEpisode.Response) -> StopEpisode.Response:
        if self._episode is None or self._episode.outcome is not Outcome.RUNNING:
            response.message = "No episode is running."
            return response
        try:
            outcome = Outcome(request.outcome)
        except ValueError:
            outcome = Outcome.NONE
        if outcome in (Outcome.NONE, Outcome.RUNNING):
            outcome = Outcome.ABORTED
        self._episode.end(self._seconds(), outcome, request.reason or "Stopped on request.")
        self._look()
        response.success = True
        return response

    def _on_set_instruction(
        self, request: SetInstruction.Request, response: SetInstruction.Response
    ) -> SetInstruction.Response:
        text = request.instruction.strip()
        try:
            if text and self.value("tabletop"):
                self._check_words("", text)
        except EpisodeError as error:
            response.message = str(error)
            return response
        if self._episode is not None and self._episode.outcome is Outcome.RUNNING:
            if not text:
                response.message = "An instruction must not be empty while an episode runs; stop it instead."
                return response
            self._episode.instruction = text
        self._instruction.publish(String(data=text))
        response.success = True
        return response

    async def _execute(self, goal: Any) -> ExecuteInstruction.Result:
        result = ExecuteInstruction.Result()
        try:
            rules = self._rules(goal.request.timeout)
            episode = await self._start("", goal.request.instruction, 0, rules)
        except EpisodeError as error:
            self.get_logger().error(str(error))
            goal.abort()
            result.outcome, result.reason = int(Outcome.ABORTED), str(error)
            return result

        def over() -> bool:
            if goal.is_cancel_requested:
                episode.end(self._seconds(), Outcome.ABORTED, "Cancelled.")
            feedback = ExecuteInstruction.Feedback(step=episode.steps, interventions=episode.interventions)
            feedback.safety_state = self._safety.state if self._safety is not None else 0
            goal.publish_feedback(feedback)
            return episode.outcome is not Outcome.RUNNING

        await self._waiting.until(over, float("inf"))
        if goal.is_cancel_requested:
            goal.canceled()
        elif episode.outcome is Outcome.ABORTED:
            goal.abort()
        else:
            goal.succeed()
        result.outcome, result.reason = int(episode.outcome), episode.reason
        result.elapsed = episode.elapsed(self._seconds())
        return result

    # One episode.

    def _rules(self, timeout: float) -> Rules:
        return Rules(timeout, self.value("patience"), self.value("first_answer"))

    def _check_words(self, task: str, instruction: str) -> None:
        """Refuse before the robot moves.  Raises `EpisodeError`."""
        try:
            if self.value("simulator"):
                resolve_goal(task, instruction, np.random.default_rng(0))
            elif self.value("tabletop"):
                parse_instruction(instruction)
        except VlaRosError as error:
            raise EpisodeError(str(error)) from error

    async def _start(self, task: str, instruction: str, seed: int, rules: Rules) -> Episode:
        if self._running:
            raise EpisodeError("An episode is running already; stop it first.")
        simulated = self.value("simulator")
        if not instruction.strip() and not (task and simulated):
            raise EpisodeError("The instruction is empty.")
        self._check_words(task, instruction)
        self._busy = True
        try:
            self._instruction.publish(String(data=""))
            if self.value("home_first"):
                await self._preparation.go_home(self.value("home_gripper_width"))
            if simulated:
                scene = await self._preparation.lay_scene(task, instruction, seed)
                instruction, self._judge_id = scene.instruction, scene.episode_id
            self._count += 1
            self._announced = False
            self._episode = Episode(
                f"{self.value('episode_prefix')}_{self._count:04d}",
                task,
                instruction.strip(),
                rules,
                self._seconds(),
                judged=simulated,
                interventions_before=self._safety.intervention_count if self._safety is not None else 0,
            )
        finally:
            self._busy = False
        self._instruction.publish(String(data=self._episode.instruction))
        self._publish_status()
        self.get_logger().info(f"{self._episode.episode_id}: {self._episode.instruction}")
        return self._episode

    def _look(self) -> None:
        self._waiting.look()
        episode = self._episode
        if episode is None or self._announced:
            return
        episode.check(self._seconds())
        if episode.outcome is not Outcome.RUNNING:
            self._announced = True
            self._instruction.publish(String(data=""))
            self._publish_status()
            self.get_logger().info(f"{episode.episode_id}: {episode.outcome.name.lower()}: {episode.reason}")

    def _publish_status(self) -> None:
        episode = self._episode
        message = msg.EpisodeStatus()
        message.header.stamp = self.get_clock().now().to_msg()
        if episode is not None:
            message.episode_id, message.task = episode.episode_id, episode.task
            message.instruction, message.outcome = episode.instruction, int(episode.outcome)
            message.reason, message.elapsed = episode.reason, episode.elapsed(self._seconds())
            message.steps, message.interventions = episode.steps, max(episode.interventions, 0)
        self._status.publish(message)

    async def _start_by_itself(self) -> None:
        self.destroy_timer(self._first)
        if not self.value("instruction").strip():
            return
        if not await self._preparation.up(self.value("up_patience")):
            self.get_logger().fatal(
                f"The graph did not come up within {self.value('up_patience'):g} s, so the instruction "
                f"'{self.value('instruction')}' was not begun."
            )
            self.stop(NOT_UP)
            return
        try:
            await self._start("", self.value("instruction"), 0, self._rules(self.value("timeout")))
        except EpisodeError as error:
            self.get_logger().error(
                f"{error} The instruction '{self.value('instruction')}' was not begun; "
                "/supervisor/start_episode begins one when that is mended."
            )


def main() -> int:
    """Entry point."""
    return run(Supervisor)


if __name__ == "__main__":
    sys.exit(main())
