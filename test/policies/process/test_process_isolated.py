"""A policy in a process of its own: what it answers, and what becomes of one that fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_policies import NORMALIZATION

from vla_ros.contract import load_contract
from vla_ros.errors import InstructionError, PolicyError
from vla_ros.policies.base import ActionPrefix, Policy, PrefixPolicy
from vla_ros.policies.process.isolated import FIRST_DELAY, LONGEST_DELAY, IsolatedPolicy, isolated
from vla_ros.policies.registry import policy_scaling
from vla_ros.preflight import preflight
from vla_ros.types import ActionKind, CameraImage, JointState, Observation, Pose

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no anonymous shared memory here"),
]


def seen(number: int = 1, value: int = 10, size: tuple[int, int] = (24, 32)) -> Observation:
    image = CameraImage(number, np.full((*size, 3), value, np.uint8))
    joints = JointState(number, np.arange(7.0), np.zeros(0), np.zeros(0))
    pose = Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
    return Observation(10**9 + number, number, {"primary": image, "wrist": image}, joints, 0.04, pose)


def options(**more: Any) -> dict[str, Any]:
    return {"factory": "scripted_policies:make", **more}


@pytest.fixture
def make() -> Iterator[Callable[..., IsolatedPolicy]]:
    made: list[IsolatedPolicy] = []

    def one(answer_limit: float = 20.0, load_limit: float = 60.0, tell: Any = None, **more: Any) -> Any:
        contract = load_contract("panda", policy="custom", policy_options=options(**more))
        told = {} if tell is None else {"tell": tell}
        made.append(isolated(contract, answer_limit=answer_limit, load_limit=load_limit, **told))
        return made[-1]

    yield one
    for policy in made:
        policy.close()


def until(condition: Callable[[], bool], limit: float = 30.0) -> bool:
    deadline = time.monotonic() + limit
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def test_it_answers_as_the_policy_inside_does(make: Any) -> None:
    policy = make()
    assert isinstance(policy, Policy) and not isinstance(policy, PrefixPolicy)
    policy.load()
    policy.reset("pick")
    assert policy.pid not in (0, os.getpid()) and policy.problem == ""
    for number in (1, 2, 3):
        observation = seen(number, 10 * number)
        output = policy.infer(observation)
        assert (output.stamp, output.sequence) == (observation.stamp, number)
        # the first image is kept by the policy and is not written over
        expected = [0.01 * number, number, 10.0, 21.0, 0.0, 0.0, 0.04]
        np.testing.assert_allclose(output.values, [expected] * 4, rtol=0.0, atol=1e-12)
        assert set(output.latency) == {"handover", "decode"} and output.latency["handover"] > 0.0
        assert output.text == f"pick {policy.pid}"
    assert policy.memory()["process"] > 10**6
    assert policy.counts == {}


def test_images_of_any_size_and_none_are_handed_over(make: Any) -> None:
    policy = make()
    policy.load()
    policy.reset("pick")
    for value, size in ((3, (24, 32)), (9, (1200, 1600)), (5, (8, 8))):
        output = policy.infer(seen(1, value, size))
        assert output.values[0, 0] == pytest.approx(0.001 * value)
    narrow = np.zeros((30, 40, 6), np.uint8)[::2, ::2, ::2]
    narrow[...] = 7
    blind = seen()
    output = policy.infer(Observation(**{**vars(blind), "images": {"primary": CameraImage(1, narrow)}}))
    assert output.values[0, 0] == pytest.approx(0.007)
    assert policy.infer(Observation(**{**vars(blind), "images": {}})).values[0, 0] == 0.0
    grey = {"primary": CameraImage(1, np.zeros((4, 4), np.uint8))}
    with pytest.raises(PolicyError, match=r"'primary' has a frame of uint8 \(4, 4\)"):
        policy.infer(Observation(**{**vars(blind), "images": grey}))
    assert policy.infer(blind).values.shape == (4, 7)


def test_nothing_lies_in_the_folder_of_shared_memory(make: Any) -> None:
    policy = make()
    before = set(os.listdir("/dev/shm"))
    policy.load()
    policy.infer(seen())
    maps = Path(f"/proc/{policy.pid}/maps").read_text()
    assert "memfd:vla_ros_images" in maps and "/dev/shm" not in maps
    assert not {name for name in set(os.listdir("/dev/shm")) - before if "vla_ros" in name}


def test_a_prefix_goes_over_too(make: Any) -> None:
    policy = make(prefix=True)
    assert isinstance(policy, PrefixPolicy)
    policy.load()
    targets = np.arange(14.0).reshape(2, 7)
    prefix = ActionPrefix(
        ActionKind.CARTESIAN_ABSOLUTE, np.array([0.1, 0.3]), targets, np.array([0.02, 0.03])
    )
    output = policy.infer_after(seen(), prefix)
    np.testing.assert_allclose(output.values[0], [0.1, 91.0, 0, 0, 0, 0, 0.02])


@pytest.mark.parametrize("scaled", ["values", "tokens"])
def test_normalised_answers_are_what_the_chunker_is_told(make: Any, scaled: str) -> None:
    policy = make(scaled=scaled)
    contract = load_contract("panda", policy="custom", policy_options=options(scaled=scaled))
    preflight(contract, policy.requirements)
    normalization, codec = policy_scaling(contract)
    assert normalization == NORMALIZATION and (codec is None) == (scaled == "values")
    policy.load()
    output = policy.infer(seen())
    assert output.normalization_key == "kitchen" and (output.tokens is None) == (scaled == "values")


def test_what_the_policy_says_of_itself_is_no_failure(make: Any) -> None:
    policy = make()
    policy.load()
    with pytest.raises(InstructionError, match="^The instruction is nonsense.$"):
        policy.reset("nonsense")
    policy.reset("do refuse")
    with pytest.raises(PolicyError, match="^The model is tired.$"):
        policy.infer(seen())
    policy.reset("do done")
    assert policy.infer(seen()).terminate
    policy.reset("do single")
    assert policy.infer(seen()).values.dtype == np.float64
    assert policy.counts == {}


@pytest.mark.parametrize(
    ("word", "kind", "sentence"),
    [
        ("crash", "crashed", "'custom' is gone: its process was ended by SIGKILL.*started again"),
        ("exit", "crashed", "its process ended with status 3"),
        ("raise", "failed", "failed with ZeroDivisionError: no such number;"),
        ("nan", "invalid", "nan at step 2 in dimension 1"),
        ("infinite", "invalid", "inf at step 0 in dimension 0"),
        ("shape", "invalid", r"shape \(4, 6\), but its action space needs \(1 to 4, 7\)"),
        ("flat", "invalid", r"shape \(7,\)"),
        ("long", "invalid", r"shape \(5, 7\)"),
        ("short", "invalid", r"shape \(0, 7\)"),
        ("dtype", "invalid", "complex128 holds no plain numbers"),
        ("objects", "invalid", "object holds no plain numbers"),
        ("whole", "invalid", "values of int64, but they must be floating-point"),
        ("list", "invalid", "values are a list"),
        ("space", "invalid", "action space 'droid', but declares 'delta_tcp'"),
        ("stamp", "invalid", "answered observation 1 of 12 ns"),
        ("key", "invalid", "normalisation key 'cellar', but declares ''"),
        ("both", "invalid", "answered both values and tokens"),
        ("neither", "invalid", "answered neither values nor tokens"),
        ("fractions", "invalid", "tokens of float64"),
        ("late", "invalid", "latency that is no finite number"),
        ("nothing", "invalid", "answered a NoneType"),
    ],
)
def test_each_failure_is_named_and_counted(
    make: Any, monkeypatch: pytest.MonkeyPatch, word: str, kind: str, sentence: str
) -> None:
    told: list[str] = []
    policy = make(tell=told.append)
    monkeypatch.setattr(policy, "_start_again", lambda delay: None)
    policy.load()
    pid = policy.pid
    policy.reset(f"do {word}")
    with pytest.raises(PolicyError, match=sentence) as caught:
        policy.infer(seen())
    assert "\n" not in str(caught.value)
    assert until(lambda: len(told) == 1) and told[0].split(";")[0] == str(caught.value).split(";")[0]
    assert policy.counts == {kind: 1} and policy.pid == 0
    assert until(lambda: not alive(pid))
    with pytest.raises(PolicyError, match="Policy 'custom'"):
        policy.infer(seen())
    assert policy.counts == {kind: 1}


def test_a_hung_model_is_ended_and_a_new_one_knows_the_instruction(make: Any) -> None:
    told: list[str] = []
    policy = make(answer_limit=1.5, tell=told.append)
    policy.load()
    pid = policy.pid
    policy.reset("do hang")
    begun = time.monotonic()
    with pytest.raises(PolicyError, match="did not answer within 1.5 s; it is started again"):
        policy.infer(seen())
    assert time.monotonic() - begun >= 1.5
    assert until(lambda: not alive(pid))
    policy.reset("pick")
    with pytest.raises(PolicyError, match=r"started again"):
        policy.infer(seen())
    assert until(lambda: policy.pid != 0)
    assert policy.infer(seen()).text == f"pick {policy.pid}"
    assert policy.counts == {"hung": 1, "restarts": 1}
    assert "there again" in told[-1] and policy._delay == FIRST_DELAY


def test_a_suspended_model_is_a_hung_one(make: Any) -> None:
    policy = make(answer_limit=1.0)
    policy.load()
    pid = policy.pid
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(PolicyError, match="did not answer"):
        policy.infer(seen())
    assert until(lambda: not alive(pid))


def test_a_model_that_is_killed_while_nobody_asks_comes_back_by_itself(make: Any) -> None:
    policy = make()
    policy.load()
    policy.reset("pick")
    first = policy.pid
    os.kill(first, signal.SIGKILL)
    assert until(lambda: policy.pid not in (0, first))
    assert policy.infer(seen()).text == f"pick {policy.pid}"
    assert policy.counts == {"crashed": 1, "restarts": 1}


def test_an_instruction_that_kills_the_model_is_counted_and_said_when_asked(make: Any) -> None:
    policy = make()
    policy.load()
    policy.reset("crash at reset")
    with pytest.raises(PolicyError, match="status 5"):
        policy.infer(seen())
    # the new one is told it again, and dies of it again
    assert until(lambda: policy.counts["crashed"] >= 2)
    policy.reset("pick")
    assert until(lambda: policy.pid != 0)
    assert policy.infer(seen()).text.startswith("pick")


def test_an_instruction_that_the_new_model_refuses_is_refused_when_asked(make: Any) -> None:
    policy = make()
    policy.load()
    with pytest.raises(InstructionError):
        policy.reset("nonsense")
    first = policy.pid
    os.kill(first, signal.SIGKILL)
    assert until(lambda: policy.pid not in (0, first))
    for _ in range(2):
        with pytest.raises(InstructionError, match="nonsense"):
            policy.infer(seen())
    policy.reset("pick")
    assert policy.infer(seen()).text.startswith("pick") and policy.counts == {"crashed": 1, "restarts": 1}


def test_delays_double_up_to_half_a_minute_and_begin_anew_after_an_answer(make: Any) -> None:
    policy = make()
    delays = [policy._next_delay() for _ in range(9)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_DELAY, LONGEST_DELAY, LONGEST_DELAY]
    policy.load()
    policy.infer(seen())
    assert policy._next_delay() == FIRST_DELAY


def test_one_that_cannot_be_loaded_again_is_tried_again(make: Any, tmp_path: Path) -> None:
    there = tmp_path / "weights"
    there.touch()
    told: list[str] = []
    policy = make(tell=told.append, crash_unless=str(there))
    policy.load()
    there.unlink()
    os.kill(policy.pid, signal.SIGKILL)
    assert until(lambda: policy.counts["not_started"] >= 1)
    with pytest.raises(PolicyError, match="could not be started again: .* status 9 while it was loaded"):
        policy.infer(seen())
    there.touch()
    assert until(lambda: policy.pid != 0)
    policy.infer(seen())
    assert policy.counts["restarts"] == 1 and "there again" in told[-1]


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"load": "refuse"}, "^The weights are missing.$"),
        ({"load": "crash"}, "its process ended with status 7 while it was loaded"),
        ({"load": "fail"}, "failed with RuntimeError: weights of no kind while it was loaded"),
        ({"load_seconds": 60.0, "load_limit": 1.0}, "did not answer within 1 s while it was loaded"),
    ],
)
def test_one_that_does_not_load_is_refused_and_leaves_no_process(
    make: Any, how: dict[str, Any], sentence: str
) -> None:
    policy = make(**how)
    with pytest.raises(PolicyError, match=sentence) as caught:
        policy.load()
    assert "\n" not in str(caught.value)
    assert policy.pid == 0 and policy.counts == {}
    assert "has not been loaded" in policy.problem


def test_what_the_model_started_ends_with_it(make: Any) -> None:
    policy = make()
    policy.load()
    policy.reset("do offspring")
    offspring = int(policy.infer(seen()).text)
    assert alive(offspring)
    policy.close()
    assert until(lambda: not alive(offspring))
    with pytest.raises(PolicyError, match="was closed"):
        policy.infer(seen())


def test_closing_ends_a_request_under_way(make: Any) -> None:
    policy = make(answer_limit=100.0)
    policy.load()
    policy.reset("do hang")
    said: list[str] = []

    def ask() -> None:
        with pytest.raises(PolicyError) as caught:
            policy.infer(seen())
        said.append(str(caught.value))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    pid = policy.pid
    policy.close()
    asking.join(10.0)
    assert said == ["Policy 'custom' was closed."]
    assert until(lambda: not alive(pid)) and policy.counts == {}


PARENT = """
import sys, time
from vla_ros.contract import load_contract
from vla_ros.policies.process.isolated import isolated
options = {"factory": "scripted_policies:make"}
policy = isolated(load_contract("panda", policy="custom", policy_options=options))
policy.load()
policy.reset("do hang")
print(policy.pid, flush=True)
from test_process_isolated import seen
policy.infer(seen())
"""


def test_a_model_ends_with_the_process_that_started_it() -> None:
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.3)
    assert alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert until(lambda: not alive(pid))


def test_a_thread_that_loads_and_ends_takes_no_model_with_it(make: Any) -> None:
    policy = make()
    loading = threading.Thread(target=policy.load)
    loading.start()
    loading.join()
    time.sleep(0.2)
    assert alive(policy.pid) and policy.infer(seen()).values is not None
