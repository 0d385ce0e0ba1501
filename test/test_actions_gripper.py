"""The gripper's conventions: absolute, binary, relative, sticky, and what one chunk leaves to the next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.actions.gripper import GripperConvention, GripperMemory, GripperState, gripper_widths
from vla_ros.robots import load_robot
from vla_ros.types import NANOSECONDS, ActionChunk, ActionKind

GRIPPER = load_robot("widowx").gripper
OPEN, CLOSED = GRIPPER.max_width, GRIPPER.min_width
RELATIVE = GripperConvention(open_value=-1.0, closed_value=1.0, relative=True)
STICKY = GripperConvention(open_value=-1.0, closed_value=1.0, relative=True, sticky=4)


def widths(values, convention, start=None, period=1.0):
    return gripper_widths(np.array(values, dtype=float), convention, GRIPPER, start, period).tolist()


def test_absolute_ones_are_linear_and_clamped_and_binary_ones_have_two_values():
    absolute = GripperConvention(open_value=0.0, closed_value=1.0)
    assert widths([0.0, 0.5, 1.0, 1.7], absolute) == pytest.approx(
        [OPEN, (OPEN + CLOSED) / 2, CLOSED, CLOSED]
    )
    binary = GripperConvention(open_value=1.0, closed_value=0.0, binarize=True)
    assert widths([0.49, 0.51, -3.0], binary) == [CLOSED, OPEN, CLOSED]


def test_relative_ones_change_the_state_when_decided_and_keep_it_otherwise():
    assert widths([0.0, 0.9, 0.0, 0.3, -0.8, 0.0], RELATIVE) == [OPEN, CLOSED, CLOSED, CLOSED, OPEN, OPEN]
    assert widths([0.0, 0.0], RELATIVE, GripperState(CLOSED)) == [CLOSED, CLOSED]


def test_sticky_ones_keep_a_change_for_their_steps():
    assert widths([1.0, -1.0, -1.0, -1.0, -1.0], STICKY) == [CLOSED] * 4 + [OPEN]
    assert widths([-1.0, -1.0, 0.0], STICKY, GripperState(CLOSED, held=0.2), 0.1) == [CLOSED, CLOSED, CLOSED]
    assert widths([-1.0, -1.0, -1.0], STICKY, GripperState(CLOSED, held=0.2), 0.1) == [CLOSED, CLOSED, OPEN]


def chunk(stamp, values, start, convention, period=0.1):
    given = gripper_widths(np.array(values, dtype=float), convention, GRIPPER, start, period)
    return ActionChunk(
        round(stamp * NANOSECONDS), 1, ActionKind.CARTESIAN_DELTA, period, given,
        translation=np.zeros((len(values), 3)), quaternion=np.tile([0.0, 0, 0, 1], (len(values), 1)),
    )  # fmt: skip


def test_a_change_that_was_only_foreseen_leaves_nothing_behind():
    memory = GripperMemory(STICKY, GRIPPER)
    assert memory.at(0) is None
    memory.remember(chunk(0.0, [0, 0, 0, 0, 1.0, 0], None, STICKY))
    state = memory.at(round(0.2 * NANOSECONDS))
    assert (state.width, state.held) == (OPEN, 0.0)
    memory.remember(chunk(0.2, [0, 0, 0, 0], state, STICKY))
    assert memory.at(NANOSECONDS).width == OPEN


def test_a_change_in_force_is_held_over_the_chunks_that_follow():
    memory = GripperMemory(STICKY, GRIPPER)
    memory.remember(chunk(0.0, [0, 1.0, 0, 0, 0, 0], None, STICKY))
    state = memory.at(round(0.2 * NANOSECONDS))
    assert state.width == CLOSED
    assert state.held == pytest.approx(0.3)  # changed at 0.1 s, for four steps of 0.1 s
    memory.remember(chunk(0.2, [-1.0] * 6, state, STICKY))
    assert memory.at(round(0.4 * NANOSECONDS)).width == CLOSED
    assert memory.at(round(0.55 * NANOSECONDS)).width == OPEN


@given(st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=60), st.integers(1, 8), st.integers(1, 6))
def test_in_pieces_or_at_once_a_stream_of_relative_commands_means_the_same(values, sticky, size):
    convention = GripperConvention(open_value=-1.0, closed_value=1.0, relative=True, sticky=sticky)
    whole = widths(values, convention, GripperState(OPEN), 0.1)
    memory, parts = GripperMemory(convention, GRIPPER), []
    for begin in range(0, len(values), size):
        stamp = begin * 0.1
        state = memory.at(round(stamp * NANOSECONDS)) or GripperState(OPEN)
        # every chunk reaches further than to the next one
        made = chunk(stamp, values[begin : begin + size + 3], state, convention)
        parts += made.gripper_width[:size].tolist()
        memory.remember(made)
    assert parts[: len(values)] == whole
