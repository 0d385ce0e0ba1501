"""Statistics and the hash that binds them to their data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_data_rlds_writer import episode, write

from vla_ros.actions.normalization import ActionStatistics, NormalizationKind, normalize, unnormalize
from vla_ros.data.data_hash import episode_digest
from vla_ros.data.open import open_dataset
from vla_ros.data.statistics import action_mask, column_statistics, statistics_of
from vla_ros.errors import DataError

_NUMBERS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 40), st.integers(1, 7)), elements=st.floats(-100, 100, width=32)
)


def _quantile(column: np.ndarray, share: float) -> float:
    """Linear between the order statistics at share * (n - 1)."""
    ordered = sorted(float(v) for v in column)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@given(_NUMBERS)
def test_columns_are_what_the_definitions_say(values: np.ndarray) -> None:
    found = column_statistics(values)
    for j in range(values.shape[1]):
        column = values[:, j].astype(float)
        mean = sum(column) / len(column)
        assert found["mean"][j] == pytest.approx(mean, abs=1e-9)
        assert found["std"][j] == pytest.approx((sum((column - mean) ** 2) / len(column)) ** 0.5, abs=1e-9)
        assert (found["min"][j], found["max"][j]) == (min(column), max(column))
        for names, share in ((("q01", "p01"), 0.01), (("q99", "p99"), 0.99)):
            for name in names:
                assert found[name][j] == pytest.approx(_quantile(column, share), abs=1e-9)


def test_statistics_serve_the_policies(tmp_path: Path) -> None:
    episodes = [episode(30), episode(20)]
    dataset = open_dataset(write(tmp_path / "set", [episodes]))
    entry = statistics_of(dataset, "mine")["mine"]
    assert (entry["num_transitions"], entry["num_trajectories"]) == (50, 2)
    assert entry["action"]["mask"] == [True] * 6 + [False]
    assert len(entry["proprio"]["mean"]) == 4
    statistics = ActionStatistics.from_mapping(entry["action"], "mine")
    actions = np.concatenate([one.actions for one in episodes])
    inside = actions[((actions >= statistics.low) & (actions <= statistics.high)).all(axis=1)]
    scaled = normalize(inside, NormalizationKind.BOUNDS_Q99, statistics)
    assert np.abs(scaled[:, :6]).max() <= 1.0
    assert np.array_equal(scaled[:, 6], inside[:, 6])
    assert np.allclose(unnormalize(scaled, NormalizationKind.BOUNDS_Q99, statistics), inside, atol=1e-6)


def test_hash_follows_what_is_learned_from() -> None:
    one = episode(3)
    same = episode(3, images={}, extra={}, metadata={}, source="elsewhere")
    assert episode_digest(one) == episode_digest(same)
    moved = one.actions.copy()
    moved[1, 2] = np.nextafter(np.float32(moved[1, 2]), np.float32(9))
    others = [
        episode(3, actions=moved),
        episode(3, states=one.states[::-1]),
        episode(3, "pick it up "),
        episode(3, instructions=("pick it", "uppick it up", "pick it up")),
        episode(3, actions=one.actions[:, :6]),
    ]
    assert len({episode_digest(e) for e in (one, *others)}) == 6


def test_order_of_episodes_counts(tmp_path: Path) -> None:
    a = open_dataset(write(tmp_path / "a", [[episode(3), episode(2)]]))
    b = open_dataset(write(tmp_path / "b", [[episode(2)], [episode(3)]]))
    one, other = statistics_of(a, "x")["x"], statistics_of(b, "x")["x"]
    assert one["data_hash"] != other["data_hash"]
    assert one["action"]["q99"] == other["action"]["q99"]


def test_what_has_no_statistics() -> None:
    with pytest.raises(DataError, match="need steps"):
        column_statistics(np.zeros((0, 7)))
    with pytest.raises(DataError, match="number 1 of step 2 is not finite"):
        column_statistics(np.array([[0.0, 0.0], [0.0, 0.0], [0.0, np.nan]]))


def test_mask_leaves_the_gripper_out() -> None:
    assert action_mask(("gripper", "x"), 2) == [False, True]
    assert action_mask((), 3) == [True, True, False]
