"""Episodes begun and ended by the person who drives, through the supervisor's services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from std_msgs.msg import String

from vla_ros import msg
from vla_ros.nodes import topics
from vla_ros.nodes.episode import Outcome
from vla_ros.nodes.waiting import Waiting
from vla_ros.srv import StartEpisode, StopEpisode

APPEAR = 10.0
"""How long the supervisor may take to be seen: somebody may be quicker than discovery is [s]."""
START, END = 90.0, 5.0
"""How long its answers may take; the robot goes home before a start is answered [s]."""


class Episodes:
    """What the supervisor says of episodes, and what it is asked for."""

    def __init__(self, node: Any, on_change: Callable[[], None]) -> None:
        """`on_change` is called when an episode is prepared and when one has begun or ended.

        The node calls `waiting.look` often.
        """
        self._node, self._on_change = node, on_change
        self.waiting = Waiting()
        self.status = msg.EpisodeStatus()
        self.instruction = ""
        """The one in force."""
        self.doing = ""
        """What of a start is under way; nobody drives meanwhile."""
        self.trouble = ""
        """Why the last request was refused."""
        self._started = 0
        node.create_subscription(msg.EpisodeStatus, topics.EPISODE_STATUS, self._on_status, topics.RELIABLE)
        node.create_subscription(String, topics.INSTRUCTION, self._on_instruction, topics.LATCHED)
        self._start = node.create_client(StartEpisode, "/supervisor/start_episode")
        self._stop = node.create_client(StopEpisode, "/supervisor/stop_episode")

    @property
    def running(self) -> bool:
        """Whether an episode runs."""
        return self.status.outcome == Outcome.RUNNING

    def start(self) -> None:
        """Ask for the next episode; what comes of it is seen in `status` or `trouble`."""
        self._node.executor.create_task(self.start_and_wait)

    def end(self, outcome: Outcome, reason: str) -> None:
        """Ask for the end of the present one."""
        self._node.executor.create_task(self.end_and_wait, outcome, reason)

    async def start_and_wait(self) -> tuple[bool, str]:
        """Ask for the next episode; whether it runs, and a sentence."""
        if self.doing or self.running:
            return self._refused("An episode runs already; end it first.")
        task, instruction = self._node.value("task"), self._node.value("instruction")
        if not task and not instruction.strip():
            return self._refused("An episode needs a task or an instruction; name one at the start.")
        self.doing, self.trouble = "waiting for the supervisor", ""
        self._on_change()
        try:
            if not await self.waiting.until(self._start.service_is_ready, APPEAR):
                return self._refused("The supervisor is not there, so no episode can be started.")
            self.doing = "going home, laying the scene"
            before = self.status.episode_id
            request = StartEpisode.Request(
                task=task, instruction=instruction, seed=self._node.value("seed") + self._started
            )
            answer = await self.waiting.ask(
                self._start, request, START, lambda: self.running and self.status.episode_id != before
            )
        finally:
            self.doing = ""
        if answer is not None and not answer.success:
            return self._refused(answer.message)
        if answer is None and not self.running:
            return self._refused(f"The supervisor did not answer within {START:g} s.")
        self._started += 1
        told = self.status if answer is None else answer
        return True, f"{told.episode_id}: {told.instruction}"

    async def end_and_wait(self, outcome: Outcome, reason: str) -> tuple[bool, str]:
        """Ask for the end of the present one; whether it ended, and a sentence."""
        if not self.running:
            return self._refused("No episode runs.")
        request = StopEpisode.Request(outcome=int(outcome), reason=reason)
        answer = await self.waiting.ask(self._stop, request, END, lambda: not self.running)
        if answer is not None and not answer.success:
            return self._refused(answer.message)
        if answer is None and self.running:
            return self._refused(f"The supervisor did not answer within {END:g} s; the episode goes on.")
        self.trouble = ""
        return True, f"The episode has ended: {outcome.name.lower()}."

    def _refused(self, sentence: str) -> tuple[bool, str]:
        self.trouble = sentence
        self._node.get_logger().warning(sentence)
        return False, sentence

    def _on_status(self, message: msg.EpisodeStatus) -> None:
        before, self.status = self.status, message
        if (before.episode_id, before.outcome) != (message.episode_id, message.outcome):
            self._on_change()
        if self.running:
            self.instruction = message.instruction

    def _on_instruction(self, message: String) -> None:
        self.instruction = message.data.strip()
