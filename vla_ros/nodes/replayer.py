"""Node `replayer`: plays recorded episodes from bags; their actions as policy output, the rest beside it."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String

from vla_ros import msg
from vla_ros.data.episode import Episode
from vla_ros.data.episode_bag import BRIDGE_RATE, IMAGE_TOPIC, STATE_TOPIC, episodes_from_bag
from vla_ros.errors import ConfigurationError, DataError
from vla_ros.nodes import topics
from vla_ros.nodes.base import VlaNode, run
from vla_ros.nodes.conversions import doubles, policy_output_message, to_time
from vla_ros.nodes.episode import Outcome
from vla_ros.nodes.parameters import Parameter
from vla_ros.srv import StartEpisode
from vla_ros.types import NANOSECONDS, PolicyOutput

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
        Parameter("bags", [""], "Bags with one episode each, in the order of their numbers."),
        Parameter("step_rate", BRIDGE_RATE, "Steps per second of the recording [Hz].", 0.5, 100.0),
        Parameter("horizon", 8, "Steps in every policy output, fewer at the end.", 1, 100),
        Parameter("action_space", "bridge", "Action space of the recorded actions."),
    )

    def __init__(self) -> None:
        super().__init__("replayer")
        self._bags = [Path(path) for path in self.value("bags") if path]
        if not self._bags:
            raise ConfigurationError("replayer: parameter 'bags' is empty; it names what is played.")
        self._period = round(NANOSECONDS / self.value("step_rate"))
        self._sequence = 0
        self._playing: Playing | None = None
        self._thread: threading.Thread | None = None
        self._output = self.create_publisher(msg.PolicyOutput, topics.POLICY_OUTPUT, topics.RELIABLE)
        self._status = self.create_publisher(msg.EpisodeStatus, topics.EPISODE_STATUS, topics.RELIABLE)
        self._instruction = self.create_publisher(String, topics.INSTRUCTION, topics.LATCHED)
        self._state = self.create_publisher(JointState, STATE_TOPIC, topics.RELIABLE)
        self._images: dict[str, Any] = {}
        self.create_service(StartEpisode, "~/start_episode", self._on_start)
        self.create_timer(0.1, self._publish_status)

    def _on_start(self, request: Any, response: Any) -> Any:
        """`request.seed` is the number of the bag."""
        if self._playing is not None and not self._playing.over:
            response.message = "An episode is being played already."
            return response
        if not 0 <= request.seed < len(self._bags):
            response.message = f"There is no bag {request.seed}, only 0 to {len(self._bags) - 1}."
            return response
        try:
            episode = next(episodes_from_bag(self._bags[request.seed]))
        except (DataError, StopIteration) as error:
            response.message = str(error) or f"{self._bags[request.seed]} holds no episode."
            return response
        name = f"replay_{request.seed:04d}"
        self._playing = Playing(name, episode, self.now() + self._period // 2)
        self._thread = threading.Thread(target=self._play, args=(self._playing,), daemon=True)
        self._thread.start()
        response.success, response.episode_id, response.instruction = True, name, episode.instruction
        return response

    def _play(self, playing: Playing) -> None:
        self._instruction.publish(String(data=playing.episode.instruction))
        for step in range(len(playing.episode)):
            stamp = playing.start + step * self._period
            time.sleep(max(0.0, (stamp - self.now()) / NANOSECONDS))
            if self.stopping:
                return
            playing.step = step
            self._publish_step(playing.episode, step, stamp)
        end = playing.start + len(playing.episode) * self._period + int(SETTLE * NANOSECONDS)
        time.sleep(max(0.0, (end - self.now()) / NANOSECONDS))
        playing.over = True
        self._publish_status()

    def _publish_step(self, episode: Episode, step: int, stamp: int) -> None:
        values = np.asarray(episode.actions[step : step + self.value("horizon")], dtype=float)
        self._sequence += 1
        output = PolicyOutput(stamp, self._sequence, self.value("action_space"), values=values)
        message = policy_output_message(output, "recorded", episode.instruction)
        message.published = to_time(self.now())
        self._output.publish(message)
        state = JointState(position=doubles(episode.states[step]))
        state.header.stamp = to_time(stamp)
        self._state.publish(state)
        for camera, frames in episode.images.items():
            if camera not in self._images:
                topic = IMAGE_TOPIC.format(camera=camera)
                self._images[camera] = self.create_publisher(CompressedImage, topic, topics.SENSOR)
            image = CompressedImage(format="jpeg", data=frames[step])
            image.header.stamp = to_time(stamp)
            self._images[camera].publish(image)

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


def main() -> int:
    """Entry point."""
    return run(Replayer)


if __name__ == "__main__":
    sys.exit(main())
