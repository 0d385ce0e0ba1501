"""Node `replayer`: plays recorded episodes from bags; their actions as policy output, the rest beside it."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger

from vla_ros import msg
from vla_ros.data.episode import Episode
from vla_ros.data.episode_bag import BRIDGE_RATE, IMAGE_TOPIC, STATE_TOPIC
from vla_ros.data.open import open_dataset
from vla_ros.data.playback import StepClock
from vla_ros.errors import ConfigurationError, DataError
from vla_ros.nodes import topics
from vla_ros.nodes.base import VlaNode, run
from vla_ros.nodes.conversions import doubles, policy_output_message, to_time
from vla_ros.nodes.episode import Outcome
from vla_ros.nodes.parameters import Parameter
from vla_ros.nodes.polling import Polled, taken, unused
from vla_ros.nodes.time_gate import ROUNDING
from vla_ros.srv import StartEpisode
from vla_ros.types import NANOSECONDS, PolicyOutput

LOOK, LOOK_SIMULATED = 0.02, 0.002
"""Seconds after which a pause, or the end, is noticed at the latest; less where time may be fast."""
CHUNK_PATIENCE, POLL = 0.2, 0.0005
"""Seconds that time stands for a chunk, and between two looks for it."""
STANDS = 0.05
"""Seconds after which simulated time stands, when it was asked to, and everybody knows which it is."""
SETTLE = 0.6
"""Seconds after the last step before an episode counts as over: the robot comes to rest."""


@dataclass
class Playing:
    """The episode under way."""

    name: str
    episode: Episode
    start: int
    step: int = 0
    over: bool = False


class Replayer(VlaNode):
    """Step k of an episode leaves at its start + k periods, stamped so, whatever the graph does meanwhile."""

    PARAMETERS = (
        Parameter("bags", [""], "Bags; their episodes are numbered through."),
        Parameter(
            "step_rate", BRIDGE_RATE, "Steps per second [Hz]; the recording's own, or another.", 0.05, 1000.0
        ),
        Parameter("horizon", 8, "Steps in every policy output, fewer at the end.", 1, 100),
        Parameter("action_space", "bridge", "Action space of the recorded actions."),
        Parameter("paused", False, "Whether it begins paused."),
    )

    def __init__(self) -> None:
        super().__init__("replayer")
        self._bags = [Path(path) for path in self.value("bags") if path]
        if not self._bags:
            raise ConfigurationError("replayer: parameter 'bags' is empty; it names what is played.")
        self._places: list[tuple[Path, int]] = []
        """Bag and number in it of every episode, once somebody has asked for one."""
        self._period = round(NANOSECONDS / self.value("step_rate"))
        self._sequence = 0
        self._playing: Playing | None = None
        self._thread: threading.Thread | None = None
        self._output = self.create_publisher(msg.PolicyOutput, topics.POLICY_OUTPUT, topics.RELIABLE)
        self._status = self.create_publisher(msg.EpisodeStatus, topics.EPISODE_STATUS, topics.RELIABLE)
        self._instruction = self.create_publisher(String, topics.INSTRUCTION, topics.LATCHED)
        self._state = self.create_publisher(JointState, STATE_TOPIC, topics.RELIABLE)
        self._images: dict[str, Any] = {}
        self._look, self._gate = LOOK, None
        if self.value("use_sim_time"):
            self._look, self._gate = LOOK_SIMULATED, _Gate(self)
        self._grid = StepClock(1.0 / self.value("step_rate"), self.value("paused"))
        for name, ask in (("pause", self._grid.pause), ("resume", self._grid.resume),
                          ("step", self._grid.step)):  # fmt: skip
            self.create_service(Trigger, f"~/{name}", partial(_answer, ask))
        self.create_service(StartEpisode, "~/start_episode", self._on_start)
        self.create_timer(0.1, self._publish_status, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_start(self, request: Any, response: Any) -> Any:
        """`request.seed` is the number of the episode, counted through all bags."""
        if self._playing is not None and not self._playing.over:
            response.message = "An episode is being played already."
            return response
        try:
            if not self._places:
                self._places = [(bag, k) for bag in self._bags for k in range(len(open_dataset(bag)))]
            if not 0 <= request.seed < len(self._places):
                response.message = f"There is no episode {request.seed}, only 0 to {len(self._places) - 1}."
                return response
            bag, number = self._places[request.seed]
            episode = open_dataset(bag).episode(number)
        except DataError as error:
            response.message = str(error)
            return response
        name = f"replay_{request.seed:04d}"
        self._playing = Playing(name, episode, self.now() + self._period // 2)
        self._thread = threading.Thread(target=self._play, args=(self._playing,), daemon=True)
        self._thread.start()
        response.success, response.episode_id, response.instruction = True, name, episode.instruction
        return response

    def _play(self, playing: Playing) -> None:
        self._instruction.publish(String(data=playing.episode.instruction))
        # the first look at an episode's images takes longest: before it is time for them
        for camera, frames in playing.episode.images.items():
            self._image_publisher(camera)
            frames[0]
        if self._gate is not None:
            # at a high speed the first step would be past before this was heard of
            self._gate.hold(0.0)
            time.sleep(STANDS)
        playing.start = self.now() + self._period // 2
        self._grid.begin(playing.start / NANOSECONDS)
        while (step := self._grid.steps) < len(playing.episode):
            due = self._grid.due(self.now() / NANOSECONDS)
            if self.stopping:
                return
            if self._gate is not None:
                self._gate.hold(due)
            if due is None or due > self.now() / NANOSECONDS + ROUNDING:
                wait = self._look if due is None else due - self.now() / NANOSECONDS
                time.sleep(min(max(wait, 0.0), self._look))
                continue
            playing.step = step
            single = self._grid.take()
            self._publish_step(playing.episode, step, round(due * NANOSECONDS), single)
            if self._gate is not None:
                self._gate.wait_for_chunk(self._sequence)
        if self._gate is not None:
            self._gate.hold(None)
        end = self.now() + self._period + int(SETTLE * NANOSECONDS)
        while self.now() < end and not self.stopping:
            time.sleep(self._look)
        playing.over = True
        self._publish_status()

    def _publish_step(self, episode: Episode, step: int, stamp: int, single: bool) -> None:
        """`single`: this step alone, as it was asked for."""
        horizon = 1 if single else self.value("horizon")
        values = np.asarray(episode.actions[step : step + horizon], dtype=float)
        self._sequence += 1
        output = PolicyOutput(stamp, self._sequence, self.value("action_space"), values=values)
        message = policy_output_message(output, "recorded", episode.instruction)
        message.published = to_time(self.now())
        self._output.publish(message)
        state = JointState(position=doubles(episode.states[step]))
        state.header.stamp = to_time(stamp)
        self._state.publish(state)
        for camera, frames in episode.images.items():
            image = CompressedImage(format="jpeg", data=frames[step])
            image.header.stamp = to_time(stamp)
            self._image_publisher(camera).publish(image)

    def _image_publisher(self, camera: str) -> Any:
        if camera not in self._images:
            topic = IMAGE_TOPIC.format(camera=camera)
            self._images[camera] = self.create_publisher(CompressedImage, topic, topics.SENSOR)
        return self._images[camera]

    def _publish_status(self) -> None:
        playing = self._playing
        if playing is None:
            return
        now = self.now()
        message = msg.EpisodeStatus(
            episode_id=playing.name,
            task="replay",
            instruction=playing.episode.instruction,
            outcome=int(Outcome.SUCCESS if playing.over else Outcome.RUNNING),
            reason="All recorded actions were played." if playing.over else "",
            elapsed=(now - playing.start) / NANOSECONDS,
            steps=playing.step + 1,
        )
        message.header.stamp = to_time(now)
        self._status.publish(message)


class _Gate:
    """Simulated time stands at a step until its chunk is out, however fast it would go."""

    def __init__(self, node: Any) -> None:
        self._publisher = node.create_publisher(Float64, topics.HOLD_TIME, topics.RELIABLE)
        self._chunks = node.create_subscription(
            msg.ActionChunk, topics.ACTION_CHUNK, unused, topics.RELIABLE, callback_group=Polled()
        )
        self._told: float | None = None

    def hold(self, due: float | None) -> None:
        """Have time stand at `due` [s]; None: nowhere."""
        if due != self._told:
            self._told = due
            self._publisher.publish(Float64(data=math.inf if due is None else due))

    def wait_for_chunk(self, sequence: int) -> None:
        """Until the chunk of an output is there, or was refused, which nobody says."""
        deadline = time.monotonic() + CHUNK_PATIENCE
        while time.monotonic() < deadline:
            if any(message.sequence == sequence for message, _ in taken(self._chunks)):
                return
            time.sleep(POLL)


def _answer(ask: Callable[[], str], request: Any, response: Any) -> Any:
    response.message = ask()
    response.success = True
    return response


def main() -> int:
    """Entry point."""
    return run(Replayer)


if __name__ == "__main__":
    sys.exit(main())
