"""What comes from outside is bounded wherever it enters, and refused in one sentence."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.actions import get_action_space
from vla_ros.actions.decode import decode
from vla_ros.bounds import MAX_SECONDS, MAX_STEPS, MAX_TEXT, excess, plain
from vla_ros.commands.safe_console import Console
from vla_ros.contract import load_contract
from vla_ros.control.checks import Context, SchemaCheck
from vla_ros.data.bag_dataset import contract_from_text
from vla_ros.documents import parse_json, parse_yaml
from vla_ros.errors import (
    ActionError,
    ConfigurationError,
    ContractError,
    DataError,
    PolicyError,
    VlaRosError,
)
from vla_ros.execution.schedule import KEPT, Schedule
from vla_ros.policies.base import PolicyRequirements
from vla_ros.policies.options import mapped_options, parsed_options
from vla_ros.policies.process import messages
from vla_ros.policies.remote import wire
from vla_ros.preflight import preflight
from vla_ros.robots import load_robot
from vla_ros.types import ActionChunk, ActionKind, InterventionAction, PolicyOutput

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\x00\r\u202e"
BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
TERRIBLE = {
    "aliases": f"{BOMB}robot: panda\ncontrol_rate: *i\n",
    "an alias in itself": "robot: panda\npolicy_options: &a\n  x: *a\n",
    "nesting": "robot: " + "[" * 20_000,
    "some nesting": "robot: " + "[" * 60 + "]" * 60,
    "digits": f"robot: panda\ncontrol_rate: {'9' * 100_000}\n",
    "large number": f"robot: panda\ncontrol_rate: {'9' * 400}\n",
    "date": "robot: panda\ncontrol_rate: 2026-99-99\n",
    "size": "robot: panda\n# " + "x" * 2**21,
}


def chunk(steps: int, period: float, kind: ActionKind = ActionKind.CARTESIAN_DELTA) -> ActionChunk:
    if kind is ActionKind.JOINT_POSITION:
        return ActionChunk(1, 1, kind, period, np.zeros(steps), joints=np.zeros((steps, 7)))
    quaternion = np.tile([0.0, 0.0, 0.0, 1.0], (steps, 1))
    return ActionChunk(
        1, 1, kind, period, np.zeros(steps), translation=np.zeros((steps, 3)), quaternion=quaternion
    )


@pytest.mark.parametrize("kind", list(ActionKind))
@given(st.integers(1, 3 * MAX_STEPS), st.floats(0.001, 5.0))
def test_a_chunk_passes_if_and_only_if_its_steps_and_seconds_are_within_the_bounds(
    kind: ActionKind, steps: int, period: float
) -> None:
    found = SchemaCheck(7)(chunk(steps, period, kind), Context(1, 0, 0))
    assert (found is None) == (steps <= MAX_STEPS and steps * period <= MAX_SECONDS * (1.0 + 1e-9))
    if found is not None:
        # refused, not latched: the motion under way goes on to its planned end
        assert found[0].action is InterventionAction.REJECT
        assert f"{steps} steps" in found[1] and "allowed are at most 256 steps" in found[1]


@given(st.integers(1, 3 * MAX_STEPS))
def test_an_answer_is_decoded_if_and_only_if_it_is_within_the_bounds(steps: int) -> None:
    space, gripper = get_action_space("delta_tcp", 7, 10.0), load_robot("panda").gripper
    output = PolicyOutput(1, 1, "delta_tcp", values=np.zeros((steps, 7)))
    if excess(steps, space.period):
        with pytest.raises(ActionError, match=f"has {steps} steps of 0.1 s, allowed are at most"):
            decode(output, space, gripper)
    else:
        assert decode(output, space, gripper).horizon == steps


@pytest.mark.parametrize("horizon, fits", [(100, True), (101, False), (10**9, False)])
def test_a_policy_that_declares_a_longer_horizon_is_refused_before_it_runs(horizon: int, fits: bool) -> None:
    contract = load_contract("panda", simulated=True, policy="custom", action_rate=5.0)
    needs = PolicyRequirements("delta_tcp", 5.0, horizon)
    if fits:
        preflight(contract, needs)
        return
    with pytest.raises(ContractError, match=rf"'custom' declares answers .* {horizon} steps of 0.2 s"):
        preflight(contract, needs)


@pytest.mark.parametrize("text", TERRIBLE.values(), ids=TERRIBLE)
def test_a_contract_that_is_terrible_to_read_is_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load_contract(path)
    assert str(path) in str(refused.value) and len(str(refused.value)) < 400
    with pytest.raises(DataError) as unread:
        contract_from_text(text, tmp_path / "bag")
    assert len(str(unread.value)) < 500
    with pytest.raises(ConfigurationError):
        load_robot(path)


@pytest.mark.parametrize(
    "text", [f"x={value}" for value in ("[" * 5000, "9" * 5000, "2026-99-99", "&a [*a]")]
)
def test_an_option_that_is_terrible_to_read_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigurationError, match="option") as refused:
        parsed_options([text])
    with pytest.raises(ConfigurationError, match="allowed is a YAML mapping") as unread:
        mapped_options(text.replace("=", ": ", 1), "Launch argument 'policy_options'")
    assert len(str(refused.value)) < 400 and len(str(unread.value)) < 400


LEAVES = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(max_size=8)


@given(
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=20,
    )
)
def test_what_is_within_the_bounds_is_read_as_ever(value: Any) -> None:
    text = yaml.safe_dump(value)
    assert parse_yaml(text) == yaml.safe_load(text)


def test_an_anchor_that_is_used_a_few_times_is_fine() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: *a\nc: *a\n")["c"] == {"x": 1}


def test_json_that_is_nested_too_deeply_is_no_json() -> None:
    with pytest.raises(ValueError, match="nested"):
        parse_json("[" * 200_000)


@pytest.mark.parametrize(
    "shape", [[2**62, 4, 0], [2**63, 0], [0, 2**64 - 1], [-1, 0], [2**31] * 8, [True, 0], [0] * 9]
)
def test_a_shape_that_no_array_has_is_refused_on_both_wires(shape: list[Any]) -> None:
    frame = msgpack.packb({b"__ndarray__": True, b"data": b"", b"dtype": "<f8", b"shape": shape})
    with pytest.raises(PolicyError):
        wire.unpack(frame)
    inner = msgpack.packb(["<f8", shape, b""])
    with pytest.raises(PolicyError):
        messages.unpack(msgpack.packb({"x": msgpack.ExtType(1, inner)}))


@given(st.lists(st.integers(-(2**63), 2**64 - 1) | st.integers(0, 3), max_size=9), st.binary(max_size=64))
def test_no_shape_raises_anything_but_a_refusal(shape: list[int], data: bytes) -> None:
    frame = msgpack.packb({b"__ndarray__": True, b"data": data, b"dtype": "|u1", b"shape": shape})
    try:
        found = wire.unpack(frame)
    except PolicyError:
        return
    assert list(found.shape) == shape and found.tobytes() == data


@given(st.text())
def test_text_is_shown_without_control_characters(text: str) -> None:
    shown = plain(text + ESCAPES)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert plain(shown) == shown and len(plain("x" * 10**5)) <= MAX_TEXT + 3


def test_errors_and_the_console_show_text_without_control_characters() -> None:
    assert "\x1b" not in str(VlaRosError(f"episode '{ESCAPES}' is broken"))
    from rich.table import Table

    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80)
    table = Table("task")
    table.add_row(f"pick{ESCAPES}")
    console.print(table)
    console.print(f"[bold]own[/bold] {ESCAPES}", style="red")
    said = file.getvalue()
    assert "\x1b]" not in said and "\x1b[2J" not in said and "\x9b" not in said and "\x07" not in said
    assert "\x1b[1;31mown" in said


def test_the_grippers_schedule_does_not_grow_with_the_run() -> None:
    schedule, whole = Schedule.constant(0.08), Schedule.constant(0.08)
    rng = np.random.default_rng(1)
    for k in range(3000):
        begin = 0.2 * k
        times, widths = begin + 0.1 * np.arange(-2, 6), rng.uniform(0.0, 0.08, 8)
        schedule = schedule.then(begin, times, widths)
        assert len(schedule.times) < 20 * KEPT
        if k < 500:
            whole = Schedule(
                np.concatenate([whole.times[whole.times < begin], [begin], times[times > begin]]),
                np.concatenate([
                    whole.widths[whole.times < begin], [widths[np.searchsorted(times, begin, "right") - 1]],
                    widths[times > begin],
                ]),
            )  # fmt: skip
            for at in (begin - KEPT + 1.0, begin - 1.0, begin, begin + 0.31):
                assert schedule.at(at) == whole.at(at)


def test_the_bounds_hold_what_is_used() -> None:
    assert not excess(MAX_STEPS, MAX_SECONDS / MAX_STEPS)
    assert not excess(100, 0.02) and not excess(50, 0.02)
    assert excess(MAX_STEPS + 1, 0.001) and excess(5, 5.0)
    assert replace(chunk(4, 0.1), period=0.2).horizon == 4
