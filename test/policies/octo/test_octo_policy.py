"""The whole policy on tiny checkpoints: options, cameras, goals, seeds, prefixes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from octo_checkpoint import config_json, statistics, write_checkpoint
from PIL import Image as Pillow

from vla_ros.actions import decode, get_action_space
from vla_ros.actions.normalization import NormalizationKind
from vla_ros.errors import InstructionError, ObservationError, PolicyError
from vla_ros.policies.base import ActionPrefix, PrefixPolicy
from vla_ros.policies.octo import make_octo
from vla_ros.robots import load_robot
from vla_ros.types import ActionKind, CameraImage, JointState, Observation, Pose

torch = pytest.importorskip("torch")
ROBOT = load_robot("panda")
CAMERAS = tuple(ROBOT.cameras)
SECOND = 1_000_000_000


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: Any) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("octo"))


def observation(index: int, cameras: tuple[str, ...] = CAMERAS[:1]) -> Observation:
    random = np.random.default_rng(index)
    stamp = SECOND + round(index * 0.2 * SECOND)
    images = {name: CameraImage(stamp, random.integers(0, 256, (60, 80, 3), np.uint8)) for name in cameras}
    joints = JointState(stamp, ROBOT.home, np.zeros(7), np.zeros(7))
    pose = Pose(np.array([0.4, 0.0, 0.3]), np.array([1.0, 0.0, 0.0, 0.0]))
    return Observation(stamp, index, images, joints, 0.04, pose)


def ready(checkpoint: Path, instruction: str = "lift the red block", **options: Any) -> Any:
    policy = make_octo(ROBOT, checkpoint=str(checkpoint), **{"device": "cpu", **options})
    policy.load()
    policy.reset(instruction)
    return policy


def answers(policy: Any, count: int = 3, cameras: tuple[str, ...] = CAMERAS[:1]) -> np.ndarray:
    return np.stack([policy.infer(observation(index, cameras)).values for index in range(count)])


def test_what_it_asks_for(checkpoint: Path) -> None:
    policy = make_octo(ROBOT, checkpoint=str(checkpoint), rate=5.0)
    needs = policy.requirements
    assert isinstance(policy, PrefixPolicy)
    assert (needs.action_space, needs.horizon, needs.observation_window) == ("bridge", 4, 2)
    assert [(one.name, one.required) for one in needs.cameras] == [(CAMERAS[0], True)]
    assert needs.normalization is not None
    assert (needs.normalization.key, needs.normalization.kind) == ("bridge_dataset", NormalizationKind.NORMAL)
    assert needs.action_rate == 5.0 and needs.codec is None
    assert needs.machine.memory > 4e8


def test_reading_what_it_asks_for_imports_no_torch(checkpoint: Path) -> None:
    code = (
        "import sys; from vla_ros.policies.registry import make_policy\n"
        "from vla_ros.robots import load_robot\n"
        f"p = make_policy('octo', load_robot('panda'), checkpoint={str(checkpoint)!r})\n"
        "assert p.requirements.horizon == 4; assert 'torch' not in sys.modules; print('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


def test_answers(checkpoint: Path) -> None:
    policy = ready(checkpoint)
    output = policy.infer(observation(3))
    assert output.values.shape == (4, 7) and output.tokens is None
    assert np.abs(output.values).max() <= 5.0 and np.isfinite(output.values).all()
    assert (output.stamp, output.sequence) == (observation(3).stamp, 3)
    assert (output.action_space, output.normalization_key) == ("bridge", "bridge_dataset")
    assert set(output.latency) == {"vision", "prefill", "denoise"}
    space = get_action_space("bridge")
    chunk = decode(output, space, ROBOT.gripper, policy.requirements.normalization)
    assert chunk.horizon == 4


def test_the_same_seed_gives_the_same_answers(checkpoint: Path) -> None:
    policy = ready(checkpoint)
    first = answers(policy)
    policy.reset("lift the red block")
    assert np.array_equal(answers(policy), first)
    assert np.array_equal(answers(ready(checkpoint)), first)
    assert not np.allclose(answers(ready(checkpoint, seed=1)), first)
    assert not np.allclose(answers(ready(checkpoint, "put the blue plate")), first)


def test_the_window_reaches_back(checkpoint: Path) -> None:
    """The second answer depends on the first frame, unless it is too old."""
    policy = ready(checkpoint)
    both = answers(policy, 2)[1]
    policy.reset("lift the red block")
    black = replace(observation(0), images={CAMERAS[0]: CameraImage(SECOND, np.zeros((60, 80, 3), np.uint8))})
    policy.infer(black)
    other = policy.infer(observation(1)).values
    assert not np.allclose(other, both)
    found = []
    for first in (black, observation(0)):
        policy.reset("lift the red block")
        policy.infer(replace(first, stamp=SECOND - 5 * SECOND))
        found.append(policy.infer(observation(1)).values)
    assert np.array_equal(*found)


def test_a_wrist_camera_and_without(checkpoint: Path) -> None:
    with_wrist = make_octo(ROBOT, checkpoint=str(checkpoint), wrist_camera=CAMERAS[1])
    assert [one.required for one in with_wrist.requirements.cameras] == [True, False]
    policy = ready(checkpoint, wrist_camera=CAMERAS[1])
    both = answers(policy, 2, CAMERAS[:2])
    policy.reset("lift the red block")
    missing = answers(policy, 2)
    assert not np.allclose(both, missing)
    # a camera that is missing and one that was never asked for are the same to the model
    assert np.allclose(missing, answers(ready(checkpoint), 2), atol=2e-3)
    with pytest.raises(ObservationError, match=f"no image of camera '{CAMERAS[0]}'"):
        policy.infer(observation(4, CAMERAS[1:2]))


def test_the_wrist_camera_alone(checkpoint: Path) -> None:
    policy = ready(checkpoint, camera="none", wrist_camera=CAMERAS[1])
    assert [(one.name, one.required) for one in policy.requirements.cameras] == [(CAMERAS[1], True)]
    both = observation(0, CAMERAS[:2])
    found = policy.infer(both).values
    policy.reset("lift the red block")
    wrist = {CAMERAS[1]: both.images[CAMERAS[1]]}
    assert np.array_equal(policy.infer(replace(both, images=wrist)).values, found)
    with pytest.raises(ObservationError, match=f"no image of camera '{CAMERAS[1]}'"):
        policy.infer(observation(4))


def test_a_goal_image_hides_the_instruction(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "goal.png"
    Pillow.fromarray(np.random.default_rng(9).integers(0, 256, (50, 40, 3), np.uint8)).save(path)
    goal = answers(ready(checkpoint, "", goal_image=str(path)))
    assert np.array_equal(answers(ready(checkpoint, "lift", goal_image=str(path))), goal)
    Pillow.fromarray(np.zeros((50, 40, 3), np.uint8)).save(path)
    assert not np.allclose(answers(ready(checkpoint, "", goal_image=str(path))), goal)


def test_order_of_use(checkpoint: Path) -> None:
    policy = make_octo(ROBOT, checkpoint=str(checkpoint), device="cpu")
    for step in (lambda: policy.infer(observation(0)), lambda: policy.reset("lift")):
        with pytest.raises(PolicyError, match="before it was loaded"):
            step()
    policy.load()
    with pytest.raises(PolicyError, match="given an instruction"):
        policy.infer(observation(0))
    with pytest.raises(InstructionError, match="instruction is empty"):
        policy.reset("  ")


def test_it_goes_on_from_what_is_committed(checkpoint: Path) -> None:
    policy = ready(checkpoint, action_space="delta_tcp", normalization="bounds")
    scaled = policy.requirements.normalization
    moved = np.array([0.012, -0.008, 0.004])
    pose = observation(0).tcp_pose
    targets = np.array([np.concatenate([pose.position + k * moved, pose.quaternion]) for k in (1, 2)])
    prefix = ActionPrefix(
        ActionKind.CARTESIAN_ABSOLUTE, np.array([0.2, 0.4]), targets, np.full(2, ROBOT.gripper.max_width)
    )
    space = get_action_space("bridge")

    def translation(output: Any) -> np.ndarray:
        found = decode(output, space, ROBOT.gripper, scaled).translation
        assert found is not None
        return found

    nearer = 0
    for seed in range(6):
        one, two = (
            ready(checkpoint, seed=seed, normalization="bounds"),
            ready(checkpoint, seed=seed, normalization="bounds"),
        )
        free = translation(one.infer(observation(0)))
        output = two.infer_after(observation(0), prefix)
        assert np.abs(output.values).max() <= 5.0
        guided = translation(output)
        nearer += np.abs(guided[:2] - moved).mean() < 0.5 * np.abs(free[:2] - moved).mean()
    assert nearer == 6
    policy.reset("lift")
    free = policy.infer(observation(0)).values
    policy.reset("lift")
    nothing = replace(prefix, after=np.array([-0.4, -0.2]))
    assert np.array_equal(policy.infer_after(observation(0), nothing).values, free)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"checkpoint": ""}, "needs the option 'checkpoint'"),
        ({"runtime": "jax"}, "torch or onnx, but runtime is 'jax'"),
        ({"normalization": "q99"}, "must be normal or bounds"),
        ({"normalization_key": "droid"}, "droid.*bridge_dataset"),
        ({"camera": "eye"}, "camera 'eye', but robot"),
        ({"wrist_camera": "eye"}, "camera 'eye', but robot"),
        ({"camera": "none"}, f"shown none of those of robot 'panda': {', '.join(CAMERAS)}"),
        ({"camera": "none", "wrist_camera": CAMERAS[1], "goal_image": "GOAL"}, "no camera is shown there"),
        ({"window": 11}, "must be 1 to 10 frames"),
        ({"goal_image": "/missing.png"}, "goal image /missing.png cannot be read"),
        ({"wrist_goal_image": "GOAL"}, "no camera is shown there"),
    ],
)
def test_options_that_cannot_be(checkpoint: Path, tmp_path: Path, options: Any, sentence: str) -> None:
    path = tmp_path / "goal.png"
    Pillow.fromarray(np.zeros((5, 5, 3), np.uint8)).save(path)
    given = {key: str(path) if value == "GOAL" else value for key, value in options.items()}
    with pytest.raises(PolicyError, match=sentence):
        make_octo(ROBOT, **{"checkpoint": str(checkpoint), **given})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device": "tpu"}, "must be auto, cpu or cuda"),
        ({"precision": "bf16", "device": "cpu"}, "bf16 on a GPU only"),
        ({"precision": "fp8", "device": "cpu"}, "fp32 or bf16, but precision is 'fp8'"),
        ({"step": 7, "device": "cpu"}, "step 7, only of 300000"),
        ({"tokenizer": "/nowhere", "device": "cpu"}, "tokenizer '/nowhere' cannot be had"),
        ({"runtime": "onnx"}, "holds no exported Octo"),
    ],
)
def test_loading_that_cannot_be(checkpoint: Path, options: Any, sentence: str) -> None:
    policy = make_octo(ROBOT, checkpoint=str(checkpoint), **options)
    with pytest.raises(PolicyError, match=sentence):
        policy.load()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(checkpoint: Path) -> None:
    with pytest.raises(PolicyError, match="finds no GPU"):
        make_octo(ROBOT, checkpoint=str(checkpoint), device="cuda").load()


def test_statistics_of_several_data_sets_or_one(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "a")
    path = folder / "dataset_statistics.json"
    entry = {"action": statistics(), "num_transitions": 1}
    path.write_text(json.dumps({"bridge_dataset": entry, "kuka": entry}))
    with pytest.raises(PolicyError, match="bridge_dataset.*kuka"):
        make_octo(ROBOT, checkpoint=str(folder))
    needs = make_octo(
        ROBOT, checkpoint=str(folder), normalization_key="kuka", action_space="droid"
    ).requirements
    assert needs.action_space == "droid" and needs.normalization is not None
    assert needs.normalization.key == "kuka" and needs.action_rate is None
    path.write_text(json.dumps(entry))
    (folder / "config.json").write_text(json.dumps({**config_json(), "dataset_kwargs": {"name": "mine"}}))
    found = make_octo(ROBOT, checkpoint=str(folder)).requirements
    assert found.normalization is not None and found.normalization.key == "mine"
    assert found.action_space == "delta_tcp"
    for content, sentence in (
        ("{", "cannot be read"),
        ("[]", "must hold a map of data sets"),
        (json.dumps({"a": {"action": {"mean": [1.0, "x"]}}}), "is of no use|no statistics"),
        (json.dumps({"a": {"proprio": {}}}), "no statistics of the actions of 'a'"),
        (json.dumps({"a": {"action": {"mean": [0.0] * 6, "std": [1.0] * 6}}}), "have 6 dimensions"),
    ):
        path.write_text(content)
        with pytest.raises(PolicyError, match=sentence):
            make_octo(ROBOT, checkpoint=str(folder))
