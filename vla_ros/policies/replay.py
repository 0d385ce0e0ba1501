"""Recorded actions as policy output: the way to drive real data through the running graph."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from vla_ros.errors import PolicyError
from vla_ros.policies.base import PolicyRequirements
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import NANOSECONDS, Array, Observation, PolicyOutput


class RecordedEpisode(Protocol):
    """What is replayed of an episode (`vla_ros.data.episode.Episode` is one)."""

    @property
    def source(self) -> str:
        """Where it came from."""
        ...

    @property
    def actions(self) -> Array:
        """(T, dimension of the action space)."""
        ...


class ReplayPolicy:
    """Answers each observation with the recorded steps that begin at its stamp.

    The first observation after `reset` begins step 0; from then on observation stamps advance the recording,
    not calls, so late, lost or doubled observations change nothing.  After the last step it terminates.
    """

    def __init__(
        self,
        actions: Array,
        action_space: str,
        rate: float = 5.0,
        horizon: int = 8,
        source: str = "recording",
    ) -> None:
        """`actions` (T, dimension), recorded at `rate` [Hz].

        Raises `PolicyError` when the actions are not a finite matrix or rate or horizon are out of range.
        """
        try:
            values = np.array(actions, dtype=float)
        except (TypeError, ValueError) as error:
            raise PolicyError(f"The actions of {source} are no numbers: {error}.") from error
        if values.ndim != 2 or len(values) == 0:
            raise PolicyError(
                f"The actions of {source} have shape {values.shape}, but replay needs (steps, dimension)."
            )
        if not np.isfinite(values).all():
            step = int(np.argwhere(~np.isfinite(values))[0, 0])
            raise PolicyError(f"The actions of {source} are not finite at step {step}.")
        if not 0.0 < rate <= 1000.0:
            raise PolicyError(f"The rate of {source} is {rate:g} Hz, but must be above 0 and at most 1000.")
        if horizon < 1:
            raise PolicyError(f"replay answers at least 1 step a chunk, but horizon is {horizon}.")
        self._actions = values
        self._space = action_space
        self._rate = float(rate)
        self._horizon = int(horizon)
        self._source = source
        self._begin: int | None = None

    @classmethod
    def from_episode(
        cls, episode: RecordedEpisode, action_space: str, rate: float = 5.0, horizon: int = 8
    ) -> ReplayPolicy:
        """Replay an episode's actions.  Raises `PolicyError` as the constructor."""
        return cls(episode.actions, action_space, rate, horizon, episode.source)

    @property
    def requirements(self) -> PolicyRequirements:
        """No camera; an answer a step, or 5 a second when steps are faster."""
        return PolicyRequirements(self._space, min(self._rate, 5.0), self._horizon)

    @property
    def steps(self) -> int:
        """Length of the recording."""
        return len(self._actions)

    def load(self) -> None:
        """Nothing to load: the actions are in memory."""

    def reset(self, instruction: str) -> None:
        """Begin at step 0 with the next observation; the instruction is not read."""
        self._begin = None

    def infer(self, observation: Observation) -> PolicyOutput:
        """The steps from the one that begins at the observation's stamp, fewer near the end."""
        if self._begin is None:
            self._begin = observation.stamp
        elapsed = (observation.stamp - self._begin) / NANOSECONDS
        # nearest step: camera stamps jitter about the recording's grid
        index = max(0, round(elapsed * self._rate))
        done = index >= self.steps
        values = self._actions[index : index + self._horizon]
        if done:
            values = self._rest()
        return PolicyOutput(
            stamp=observation.stamp,
            sequence=observation.sequence,
            action_space=self._space,
            values=values.copy(),
            terminate=done,
            text=f"step {min(index, self.steps)} of {self.steps} of {self._source}",
        )

    def _rest(self) -> Array:
        """One step that stays: zero deltas, or the last absolute target; the gripper as it was."""
        last: Array = self._actions[-1:].copy()
        if not self._space.startswith(("absolute", "joint")):
            last[:, :-1] = 0.0
        return last


def load_recording(path: str | Path) -> tuple[Array, str, float]:
    """Actions (T, dimension), action space and rate [Hz] of an .npz file with the keys of the same names.

    `action_space` and `rate` may be missing: "" and 0.  Raises `PolicyError` when the file is not that.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if "actions" not in file:
                raise PolicyError(
                    f"{path} has no array 'actions', only {', '.join(file.files) or 'nothing'}."
                )
            space = str(file["action_space"]) if "action_space" in file else ""
            rate = float(file["rate"]) if "rate" in file else 0.0
            return file["actions"], space, rate
    except FileNotFoundError:
        raise PolicyError(f"The recording {path} does not exist.") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise PolicyError(f"{path} is no recording in .npz: {error}.") from error


def make_replay(
    robot: RobotSpec, path: str = "", action_space: str = "", rate: float = 0.0, horizon: int = 8
) -> ReplayPolicy:
    """A replay of the .npz file at `path`; what the file says of action space and rate must agree.

    Raises `PolicyError`.
    """
    if not path:
        raise PolicyError("Policy 'replay' needs the option 'path': an .npz file with the array 'actions'.")
    actions, recorded_space, recorded_rate = load_recording(path)
    if recorded_space and action_space and recorded_space != action_space:
        raise PolicyError(f"{path} holds actions of '{recorded_space}', but '{action_space}' is asked for.")
    if recorded_rate and rate and abs(recorded_rate - rate) > 1e-6:
        raise PolicyError(f"{path} was recorded at {recorded_rate:g} Hz, but {rate:g} Hz is asked for.")
    return ReplayPolicy(
        actions,
        recorded_space or action_space or "delta_tcp",
        recorded_rate or rate or 5.0,
        horizon,
        str(path),
    )
