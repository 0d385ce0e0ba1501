"""What a person does with a graph that plays recordings: lays the scene, pauses, steps, changes the speed."""

from __future__ import annotations

from collections.abc import Callable

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from vla_ros import msg
from vla_ros.errors import MachineError
from vla_ros.nodes import topics
from vla_ros.nodes.episode import Outcome
from vla_ros.nodes.operator import Operator
from vla_ros.srv import StartEpisode

HANDS = ("pause", "resume", "step")


class PlaybackOperator:
    """Clients of `replayer` and `simulator`, beside those of an `Operator`."""

    def __init__(self, operator: Operator, watch: Callable[[], None]) -> None:
        """`watch` is called while an answer is waited for."""
        self._operator, self._watch = operator, watch
        self._hands = {name: operator.client(Trigger, f"/replayer/{name}") for name in HANDS}
        self._lay = operator.client(StartEpisode, "/simulator/reset_scene")
        self._tune = operator.client(SetParameters, "/simulator/set_parameters")
        self._judged = msg.EpisodeStatus()
        operator.listen(msg.EpisodeStatus, topics.SIMULATOR_STATUS, self._on_judged)

    def _on_judged(self, message: msg.EpisodeStatus) -> None:
        self._judged = message

    def steer(self, what: str) -> str:
        """One of `HANDS`; what the replayer says.  Raises `MachineError` when it does not answer."""
        return str(self._operator.call(self._hands[what], Trigger.Request(), 5.0, self._watch).message)

    def lay_scene(self, task: str, instruction: str, seed: int) -> str:
        """Have the simulator put a scene out, the arm where it is; the scene's name.

        Raises `MachineError` when it refuses.
        """
        request = StartEpisode.Request(task=task, instruction=instruction, seed=seed)
        answer = self._operator.call(self._lay, request, 10.0, self._watch)
        if not answer.success:
            raise MachineError(f"The scene cannot be laid: {answer.message}")
        return str(answer.episode_id)

    def verdict(self, scene: str) -> tuple[str, str]:
        """How the simulator judges a scene: the outcome's name in lower case, and why; empty: not at all."""
        judged = self._judged
        if judged.episode_id != scene:
            return "", ""
        return Outcome(judged.outcome).name.lower(), str(judged.reason)

    def set_speed(self, speed: float) -> None:
        """Simulated seconds in a real one, where the simulator gives the time.  Raises `MachineError`."""
        parameter = Parameter("speed", value=float(speed)).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        answer = self._operator.call(self._tune, request, 10.0, self._watch).results[0]
        if not answer.successful:
            raise MachineError(f"The speed cannot be set: {answer.reason}")
