"""Whether a policy is the right thing for a task on this machine, judged before anything moves."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from vla_ros.cli import app
from vla_ros.contract import load_contract
from vla_ros.errors import ConfigurationError, MachineError
from vla_ros.evaluation.latency import pace
from vla_ros.execution.pace import SLOW, share_of_pace
from vla_ros.policies import machine as machines
from vla_ros.policies.base import CameraNeed, MachineNeed, PolicyRequirements
from vla_ros.policies.machine import Machine, check_machine, machine_doubt, machine_problem, this_machine
from vla_ros.robots.task_needs import TaskNeeds
from vla_ros.suitability import doubtful, sharpest, too_slow, unmet

GIB = 2**30
PANDA = load_contract("panda")
ONE_STEP = PolicyRequirements("delta_tcp", 5.0, 1, (CameraNeed("primary"),))
ANY = Machine(0)


def needing(**needs):
    return replace(PANDA, needs=TaskNeeds(**needs))


def test_where_nothing_is_stated_nothing_is_unmet_or_doubtful():
    assert list(unmet(PANDA, ONE_STEP)) == list(doubtful(PANDA, ONE_STEP, ANY)) == []


@given(st.floats(0.001, 60.0), st.floats(0.5, 20.0))
def test_a_reaction_faster_than_the_policy_is_asked_is_refused(wanted, rate):
    found = list(unmet(needing(reaction=wanted), replace(ONE_STEP, rate=rate)))
    assert bool(found) == (wanted < 1.0 / rate)
    assert all(f"within {wanted:g} s" in text and f"{rate:g} times a second" in text for text in found)


@given(st.floats(0.001, 60.0), st.floats(0.0, 2.9))
def test_a_reaction_is_refused_by_what_the_answers_took(wanted, seconds):
    problem, _ = too_slow(needing(reaction=wanted), ONE_STEP, seconds)
    assert ("reaction" in problem) == (wanted < seconds + max(seconds, 0.2))


@given(st.integers(1, 8), st.floats(0.0, 10.0))
def test_slow_answers_cost_pace_and_only_those_that_nobody_carries_out_are_refused(horizon, seconds):
    needs = replace(ONE_STEP, horizon=horizon)
    problem, cost = too_slow(PANDA, needs, seconds)
    assert bool(problem) == (seconds > 3.0)
    share = share_of_pace(horizon, PANDA.action_space.period, seconds, max(seconds, 0.2))
    assert bool(cost) == (not problem and share < SLOW)
    assert not cost or ("too slow for 5 Hz" in cost and f"{share:.0%} of its pace" in cost)


@given(st.floats(1e-5, 0.1), st.floats(1e-5, 0.1))
def test_a_finer_precision_is_never_judged_more_mildly(one, two):
    fine, coarse = (needing(precision=each) for each in sorted((one, two)))
    assert len(list(unmet(fine, ONE_STEP))) >= len(list(unmet(coarse, ONE_STEP)))
    assert len(list(doubtful(fine, ONE_STEP, ANY))) >= len(list(doubtful(coarse, ONE_STEP, ANY)))


def test_precision_is_refused_below_half_a_pixel_of_what_the_policy_looks_at():
    camera, pixel = sharpest(PANDA, ONE_STEP)
    assert camera == "primary"
    smaller = replace(ONE_STEP, cameras=(CameraNeed("primary", PANDA.cameras["primary"].width // 2,
                                                    PANDA.cameras["primary"].height // 2),))  # fmt: skip
    assert sharpest(PANDA, smaller)[1] == pytest.approx(2.0 * pixel)
    (text,) = unmet(needing(precision=0.49 * pixel), ONE_STEP)
    assert f"{1e3 * pixel:.1f} mm a pixel" in text
    assert not list(unmet(needing(precision=0.51 * pixel), ONE_STEP))
    assert sharpest(PANDA, replace(ONE_STEP, cameras=(CameraNeed("wrist"),))) is None


def test_certified_safety_is_refused_and_a_fixed_task_is_doubted():
    (text,) = unmet(needing(certified_safety=True), ONE_STEP)
    assert "certified safety" in text and "the robot's own safety functions" in text
    (text,) = doubtful(needing(fixed_task=True), ONE_STEP, ANY)
    assert "motion planner" in text


@given(st.integers(1, 64), st.integers(0, 64), st.sampled_from(["cpu", "cuda", "auto"]))
def test_a_model_is_refused_where_and_only_where_it_does_not_fit(ram, gpu, device):
    here = Machine(ram * GIB, (gpu * GIB,) if gpu else ())
    problem = machine_problem("openvla", MachineNeed(15 * GIB, device), here)
    free = ram if device == "cpu" or (device == "auto" and not gpu) else gpu
    assert bool(problem) == (0 < free < 15)
    assert not problem or ("15.0 GiB" in problem and f"{free}.0 GiB left" in problem and "remote" in problem)
    assert machine_problem("openvla", MachineNeed(0, device), here) == ""


def test_a_large_model_without_a_gpu_is_doubted():
    assert "processor" in machine_doubt("openvla", MachineNeed(15 * GIB, "auto"), Machine(64 * GIB))
    assert machine_doubt("openvla", MachineNeed(15 * GIB, "auto"), Machine(64 * GIB, (GIB,))) == ""
    assert machine_doubt("octo", MachineNeed(GIB, "auto"), Machine(64 * GIB)) == ""


def kernel(root: Path, available: int, **groups: tuple[str, int, int]) -> Path:
    """A made-up /proc and /sys of a process in the control group /a/b."""
    files = {"proc/meminfo": f"MemTotal: 9 kB\nMemAvailable: {available // 1024} kB\n",
             "proc/self/cgroup": "0::/a/b\n"}  # fmt: skip
    for name, (limit, used, cached) in groups.items():
        folder = f"sys/fs/cgroup/{name}"
        files |= {f"{folder}/memory.max": limit, f"{folder}/memory.current": str(used),
                  f"{folder}/memory.stat": f"anon 1\ninactive_file {cached}\n"}  # fmt: skip
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_tightest_of_kernel_and_control_groups_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(machines, "_gpus", tuple)
    assert this_machine(tmp_path).memory == 0
    assert this_machine(kernel(tmp_path, GIB)).memory == GIB
    assert this_machine(kernel(tmp_path, GIB, a=("max\n", 5, 0))).memory == GIB
    assert this_machine(kernel(tmp_path, GIB, a=(f"{2**28}\n", 2**27, 2**20))).memory == 2**27 + 2**20


def test_a_model_too_large_for_the_control_group_is_refused_before_it_is_loaded(tmp_path, monkeypatch):
    small = this_machine(kernel(tmp_path, 64 * GIB, a=(str(4 * GIB), GIB, 0)))
    monkeypatch.setattr(machines, "this_machine", lambda: replace(small, gpus=()))
    with pytest.raises(MachineError, match=r"about 15\.0 GiB .* this machine has 3\.0 GiB left"):
        check_machine("openvla", MachineNeed(15 * GIB, "auto"))
    check_machine("octo", MachineNeed(GIB, "auto"))


def test_needs_travel_with_a_contract_and_those_of_before_stay_as_they_are(tmp_path):
    assert PANDA.needs == TaskNeeds() and "needs" not in PANDA.to_yaml()
    stated = load_contract("panda", needs={"precision": 0.002, "reaction": 0.5, "fixed_task": True})
    path = tmp_path / "contract.yaml"
    path.write_text(stated.to_yaml())
    assert load_contract(path).needs == stated.needs == TaskNeeds(0.002, 0.5, False, True)


@pytest.mark.parametrize(
    ("needs", "sentence"),
    [
        ({"precison": 0.1}, "Did you mean 'precision'?"),
        ({"precision": 2}, "at most 0.1"),
        ({"precision": 0}, "above 0"),
        ({"reaction": math.nan}, "finite"),
        ({"certified_safety": "yes"}, "true or false"),
        (3, "must be a mapping"),
    ],
)
def test_needs_that_cannot_be_are_refused(needs, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        load_contract("panda", needs=needs)


@pytest.mark.parametrize(("arguments", "status"), [(["policy", "check"], 1), (["demo"], 2)])
def test_commands_refuse_in_a_sentence(tmp_path, arguments, status):
    path = tmp_path / "lab.yaml"
    path.write_text("robot: panda\nneeds: {reaction: 0.05}\n")
    result = CliRunner().invoke(app, [*arguments, "--robot", str(path)])
    assert result.exit_code == status and "needs a reaction within 0.05 s" in result.output
    assert "Traceback" not in result.output


def recorded(horizon: int, period: float, age: float, interval: float, sources: list[int]) -> SimpleNamespace:
    """What `pace` looks at of a run: chunks of one shape, `age` [s] old, every `interval` [s]."""
    count = len(sources)
    sent = np.array([round(1e9 * (5.0 + k * interval)) for k in range(count)])
    return SimpleNamespace(
        chunks=SimpleNamespace(sent=sent, stamps=sent - round(1e9 * age)),
        chunk_shapes=SimpleNamespace(
            horizons=np.full(count, horizon), periods=np.full(count, period), sources=np.array(sources)
        ),
    )


@given(st.integers(1, 8), st.floats(0.05, 1.0), st.floats(0.0, 2.0), st.floats(0.05, 1.5))
def test_a_recorded_run_says_what_its_answers_cost(horizon, period, age, interval):
    found = pace(recorded(horizon, period, age, interval, [0] * 6))
    share = share_of_pace(horizon, period, age, interval)
    assert found.share == pytest.approx(share, abs=1e-6)
    assert bool(found.sentence()) == (found.share < SLOW)
    assert not found.sentence() or "of its pace" in found.sentence()


def test_a_persons_steps_are_not_the_policys():
    assert pace(recorded(1, 0.2, 1.0, 1.0, [1, 1, 1])) is None
    assert pace(recorded(1, 0.2, 1.0, 1.0, [])) is None


def test_a_replay_reacts_to_nothing():
    (text,) = unmet(replace(needing(reaction=60.0), policy="replay"), ONE_STEP)
    assert "looks at nothing" in text
