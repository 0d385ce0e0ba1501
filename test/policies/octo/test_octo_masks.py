"""The rules of attention against a plain reading of them, token by token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.policies.octo.masks import Group, group_mask
from vla_ros.policies.octo.schedule import cosine_schedule

SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=3)


def described(groups: list[Group], index: int, correct: bool) -> str:
    """Name of the group of a token, by counting."""
    passed = 0
    for group in groups:
        passed += group.size
        if index < passed or (not correct and index <= passed):
            return group.name
    raise AssertionError


@given(st.lists(st.integers(1, 4), max_size=2), SIZES, SIZES, st.integers(1, 3), st.booleans())
def test_rules(task: list[int], seen: list[int], read: list[int], horizon: int, correct: bool) -> None:
    task_groups = [Group(f"task_{i}", size) for i, size in enumerate(task)]
    step_groups = [Group(f"obs_{i}", size) for i, size in enumerate(seen)]
    step_groups += [Group(f"readout_{i}", size) for i, size in enumerate(read)]
    mask = group_mask(task_groups, step_groups, horizon, correct)
    prefix, step = sum(task), sum(seen) + sum(read)
    tokens = [(described(task_groups, i, correct), -1) for i in range(prefix)]
    tokens += [(described(step_groups, i, correct), t) for t in range(horizon) for i in range(step)]
    assert mask.shape == (len(tokens), len(tokens))
    for row, (name, time) in enumerate(tokens):
        for column, (other, when) in enumerate(tokens):
            kind, what = name.split("_")[0], other.split("_")[0]
            allowed = what in {"task": ("task",), "obs": ("task", "obs"), "readout": ("task", "obs")}[kind]
            allowed = (allowed or name == other) and when <= time
            assert mask[row, column] == allowed


def test_a_small_mask_written_out() -> None:
    mask = group_mask([Group("task_l", 1)], [Group("obs_a", 1), Group("readout_r", 1)], 2)
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 1, 1, 1]]
    assert np.array_equal(mask, np.array(expected, bool))


@pytest.mark.parametrize("steps", [1, 5, 20, 100])
def test_schedule_takes_nearly_all_of_the_data_away(steps: int) -> None:
    plan = cosine_schedule(steps)
    assert plan.steps == steps
    assert ((plan.betas > 0.0) & (plan.betas <= 0.999)).all()
    assert np.allclose(plan.alphas, 1.0 - plan.betas)
    assert (np.diff(plan.products) < 0.0).all()
    assert plan.products[-1] < 2e-3
    assert steps < 20 or plan.products[0] > 0.98
