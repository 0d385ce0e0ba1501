"""A pytest plugin: recorded bags as regression tests.

    def test_my_pick(bag_replay):
        bag_replay("bags/pick").matches("golden/pick.npz")

pytest finds it by itself where vla_ros is installed; `--update-golden` makes the golden files anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vla_ros.evaluation.bag_replay import BagReplay


class Replayed:
    """What today's strip makes of one bag."""

    def __init__(self, replay: BagReplay, folder: Path, update: bool) -> None:
        self.replay = replay
        self._folder, self._update = folder, update

    def matches(self, golden: str | Path, tolerance: float = 0.0, allow_stops: bool = False) -> Replayed:
        """Fail, with what differs, unless everything is as the golden file has it, bit for bit by default.

        A path is taken from the folder of the test's file.  `allow_stops`: a file in which the controller
        stops for good, or nothing moves, is made too; else `--update-golden` fails.
        """
        __tracebackhide__ = True
        from vla_ros.errors import DataError

        path = self._folder / golden
        if self._update:
            try:
                self.replay.save(path, allow_stops)
            except DataError as error:
                pytest.fail(f"{error}".replace("--allow-stops", "`allow_stops=True`"), pytrace=False)
            return self
        try:
            comparison = self.replay.compare(path, tolerance)
        except DataError as error:
            pytest.fail(f"{error}".replace("`--update`", "`pytest --update-golden`"), pytrace=False)
        if not comparison.same:
            pytest.fail(
                f"{self.replay.run.path.name} is not as {path.name} has it:\n{comparison.text()}",
                pytrace=False,
            )
        return self

    def within_limits(self) -> Replayed:
        """Fail unless every command keeps the robot's position, velocity, acceleration and jerk limits."""
        __tracebackhide__ = True
        broken = self.replay.limit_violations()
        if broken:
            pytest.fail("\n".join(broken[:10]), pytrace=False)
        return self

    def without_stops(self) -> Replayed:
        """Fail if the safety controller stopped or refused anything."""
        __tracebackhide__ = True
        for trace in self.replay.traces:
            stops = {k: n for k, n in trace.interventions.items() if k.startswith(("STOP", "REJECT"))}
            if stops:
                pytest.fail(f"{trace.episode_id}: {stops}", pytrace=False)
        return self


@pytest.fixture
def bag_replay(request: pytest.FixtureRequest) -> Callable[..., Replayed]:
    """`bag_replay(bag, contract=..., policy=..., policy_options=..., latency=...)`: step through a bag.

    Paths are taken from the folder of the test's file.  What cannot be replayed fails in one sentence.
    """
    folder = Path(str(request.path)).parent
    update = bool(request.config.getoption("--update-golden"))

    def replay(
        bag: str | Path,
        contract: str | Path | None = None,
        policy: str = "",
        policy_options: Mapping[str, Any] | None = None,
        latency: float = 0.1,
    ) -> Replayed:
        __tracebackhide__ = True
        from vla_ros.errors import VlaRosError
        from vla_ros.evaluation.bag_replay import replay_bag

        named = None if contract is None else folder / contract
        try:
            made = replay_bag(folder / bag, named, policy, policy_options, latency)
        except VlaRosError as error:
            pytest.fail(str(error), pytrace=False)
        return Replayed(made, folder, update)

    return replay


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--update-golden`."""
    group = parser.getgroup("vla_ros", "recorded bags as regression tests")
    group.addoption(
        "--update-golden", action="store_true", help="make the golden files what the bags give today"
    )
