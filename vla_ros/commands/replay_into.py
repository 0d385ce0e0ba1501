"""`vla-ros replay BAG --into sim|graph`: recorded actions again, at any speed, with single steps."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from vla_ros.commands.playback_keys import HELP, Keys, playback_keys
from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import write_json
from vla_ros.data.playback import SPEEDS, Pace, next_speed
from vla_ros.errors import ConfigurationError, unknown
from vla_ros.lockstep.played import play, recorded_episodes
from vla_ros.sim.judge import Outcome

PLACES = ("sim", "graph")
LOOK = 0.05
"""Longest wait without a look at the keys [s]."""


def replay_into(
    path: Path, into: str, speed: float, paused: bool, episodes: int, json_path: Path | None, runs: Path
) -> int:
    """Play the episodes of bags; 0 when every one that succeeded does so again.  Raises `VlaRosError`."""
    if into not in PLACES:
        raise ConfigurationError(unknown("--into", into, PLACES))
    if speed and not SPEEDS[0] <= speed <= SPEEDS[-1]:
        raise ConfigurationError(
            f"The speed is {speed:g}; it may be from {SPEEDS[0]:g} to {SPEEDS[-1]:g} times real time."
        )
    console = Console(highlight=False, soft_wrap=True)
    with playback_keys() as keys:
        if paused and not keys.terminal:
            raise ConfigurationError("--paused needs a terminal, from which the run is let go on.")
        if keys.terminal:
            console.print(HELP)
        if into == "graph":
            from vla_ros.commands.replay_into_graph import into_graph

            rows = into_graph(path, speed or 1.0, paused, episodes, runs, keys, console)
        else:
            rows = _into_simulator(path, speed, paused, episodes, keys, console)
    succeeded = sum(row["replayed"] == Outcome.SUCCESS.name.lower() for row in rows)
    again = sum(row["recorded"] == "success" for row in rows)
    console.print(f"{succeeded} of {len(rows)} succeeded; {again} had when they were recorded")
    if json_path is not None:
        write_json(json_path, {"episodes": rows, "succeeded": succeeded, "recorded_successes": again})
    # an episode without a scene cannot be judged in the graph
    good = {"success"} if into == "sim" else {"success", ""}
    failed = [row for row in rows if row["recorded"] == "success" and row["replayed"] not in good]
    return 1 if failed or not rows or any("refused" in row for row in rows) else 0


class _Hand:
    """A person at the terminal, asked before every tick: pauses, steps, speed, the end."""

    def __init__(self, keys: Keys, speed: float, paused: bool) -> None:
        self._keys, self._pace = keys, Pace(speed)
        self.paused, self.ended = paused, False
        self.period = 0.2
        """Of an action [s]."""
        self._until = 0.0
        """Simulated time to which single steps go [s]."""

    def begin(self, period: float) -> None:
        """An episode with so many seconds between actions."""
        self.period, self._until = period, 0.0
        self._pace = Pace(self._pace.speed)

    def tick(self, elapsed: float) -> bool:
        """Wait until it is time for the tick at `elapsed` [s]; false when it is to end."""
        while not self.ended:
            standing = self.paused and elapsed >= self._until
            ahead = self._pace.ahead(elapsed, time.monotonic())
            key = self._keys.read(LOOK if standing else min(ahead, LOOK))
            if key == " ":
                self.paused = not self.paused
            elif key == ".":
                self.paused, self._until = True, elapsed + self.period
            elif key == "q":
                self.ended = True
            elif key in ("+", "-"):
                self._pace.speed = next_speed(self._pace.speed, key == "+")
            if standing or key:
                self._pace.begin(elapsed, time.monotonic())
            standing = self.paused and elapsed >= self._until
            if not standing and self._pace.ahead(elapsed, time.monotonic()) <= 0.0:
                return not self.ended
        return False


def _into_simulator(
    path: Path, speed: float, paused: bool, episodes: int, keys: Keys, console: Console
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    hand = _Hand(keys, speed, paused)
    for one in recorded_episodes(path):
        if hand.ended or (episodes and len(rows) == episodes):
            break
        hand.begin(one.contract.action_space.period)
        begun = time.monotonic()
        played = play(one, hand.tick if keys.terminal or speed else None)
        verdict = played.rollout.verdict
        was = str(one.episode.metadata.get("outcome", ""))
        rows.append(
            {
                "bag": one.bag.name, "episode_id": one.episode.metadata.get("episode_id", ""),
                "recorded": was, "replayed": verdict.outcome.name.lower(), "reason": verdict.reason,
                "seconds": played.rollout.seconds, "interventions": played.rollout.interventions,
                "path_max_m": _number(played.path_max), "path_rms_m": _number(played.path_rms),
            }
        )  # fmt: skip
        console.print(
            f"{one.bag.name}: {was} -> {verdict.outcome.name.lower()} ({verdict.reason}), tool at most "
            f"{1000 * played.path_max:.1f} mm from the recorded path, "
            f"{played.rollout.seconds / max(time.monotonic() - begun, 1e-9):.1f} times real time"
        )
    return rows


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
