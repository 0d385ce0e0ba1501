"""Three families of tiny random models answer as policies; what is wrong is said in a sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("transformers", reason="the extra 'torch' is not installed")
sys.path.insert(0, str(Path(__file__).parent))

from vision_language_models import FAMILIES, write_checkpoint

from vla_ros.errors import InstructionError, ObservationError, PolicyError
from vla_ros.policies.registry import make_policy
from vla_ros.robots import load_robot
from vla_ros.types import CameraImage, JointState, Observation, Pose

ROBOT = load_robot("widowx")
CAMERA = next(iter(ROBOT.cameras))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write_checkpoint(tmp_path_factory.mktemp(name), name) for name in FAMILIES}


def observe(seed: int = 0, camera: str = CAMERA) -> Observation:
    frame = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)
    joints = JointState(7, ROBOT.home, np.zeros(0), np.zeros(0))
    pose = Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
    return Observation(7, 3, {camera: CameraImage(7, frame)}, joints, 0.04, pose)


def make(folder: Path, **options: Any) -> Any:
    return make_policy("rt2", ROBOT, checkpoint=str(folder), device="cpu", action_space="bridge", **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", [{"answer": "text"}, {"answer": "tokens"}, {"horizon": 2}, {"plan": True}])
def test_every_family_answers_in_every_form(
    folders: dict[str, Path], family: str, form: dict[str, Any]
) -> None:
    policy = make(folders[family], **form)
    horizon = form.get("horizon", 1)
    needs = policy.requirements
    assert (needs.horizon, needs.action_space, needs.rate) == (horizon, "bridge", 5.0 / horizon)
    assert needs.normalization is not None and needs.normalization.key == "made_up"
    policy.load()
    policy.reset("pick up the red block")
    first, again = policy.infer(observe()), policy.infer(observe())
    assert (first.stamp, first.sequence, first.normalization_key) == (7, 3, "made_up")
    if first.terminate:
        assert first.values is None
    else:
        assert first.values.shape == (horizon, 7) and (np.abs(first.values) <= 1.0).all()
        assert np.array_equal(first.values, again.values)
    assert first.text.startswith("Plan: ") or not form.get("plan") or first.text == ""
    assert {"preprocess", "decode"} <= set(first.latency)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plan_ends_at_its_mark(folders: dict[str, Path], family: str) -> None:
    """Random models never write the mark: it is written for them, and one in the question does not count."""
    import torch

    from vla_ros.policies.rt2.model import UntilMark

    policy = make(folders[family])
    policy.load()
    tokenizer = policy._model.tokenizer

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    question = ids("Instruction: say Action: Plan:")
    for answer, ends in (("", False), (" pick the red block", False), (" pick the red block Action:", True)):
        until = UntilMark(tokenizer, len(question))
        row = torch.tensor([question + ids(answer)])
        assert until(row, torch.zeros(1, 1)).tolist() == [ends]


def test_terminate_ends_the_task(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make(folders["llava"])
    policy.load()
    policy.reset("stop")
    tokens = policy._model.tokenizer("1 1 2 3 4 5 6 7", add_special_tokens=False).input_ids
    monkeypatch.setattr(policy._model, "ask", lambda *given: (tokens, "rest", {}))
    output = policy.infer(observe())
    assert output.terminate and output.values is None and output.text == "Plan: rest"


def test_an_answer_cut_short_is_no_action(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make(folders["llava"])
    policy.load()
    policy.reset("go")
    tokens = policy._model.tokenizer("0 1 2", add_special_tokens=False).input_ids
    monkeypatch.setattr(policy._model, "ask", lambda *given: (tokens, "", {}))
    with pytest.raises(PolicyError, match="stopped in the middle of its answer: '0 1 2'"):
        policy.infer(observe())


def test_what_is_wrong_is_said_in_a_sentence(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = folders["llava"]
    for options, sentence in (
        ({"answer": "song"}, "answer is 'song', but must be one of text, tokens"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"horizon": 0}, "1 to 64 steps"),
        ({"camera": "nose"}, "camera 'nose'"),
        ({"normalization_key": "other"}, "no data set 'other', there is made_up"),
    ):
        with pytest.raises(PolicyError, match=sentence):
            make(folder, **options)
    with pytest.raises(PolicyError, match="needs the option 'checkpoint'"):
        make_policy("rt2", ROBOT)
    with pytest.raises(PolicyError, match="7 dimensions, but action space 'joint_position' has"):
        make_policy("rt2", load_robot("panda"), checkpoint=str(folder), action_space="joint_position")
    with pytest.raises(PolicyError, match="without the statistics"):
        make(tmp_path)
    (tmp_path / "dataset_statistics.json").write_text("{")
    with pytest.raises(PolicyError, match="no readable JSON"):
        make(tmp_path)
    (tmp_path / "dataset_statistics.json").write_text(
        json.dumps({"a": {"action": {"q01": ["x"], "q99": [1]}}})
    )
    with pytest.raises(PolicyError, match="malformed"):
        make(tmp_path)
    (tmp_path / "dataset_statistics.json").write_text((folder / "dataset_statistics.json").read_text())
    with pytest.raises(PolicyError, match="cannot be loaded") as raised:
        make(tmp_path).load()
    assert "\n" not in str(raised.value)
    policy = make(folder)
    with pytest.raises(InstructionError, match="empty"):
        policy.reset(" ")
    policy.reset("go")
    with pytest.raises(ObservationError, match="not in the observation"):
        policy.infer(observe(camera="other"))


def test_256_tokens_that_are_given(folders: dict[str, Path]) -> None:
    policy = make(folders["paligemma"], answer="tokens", tokens=list(range(5, 261)))
    policy.load()
    policy.reset("go")
    assert policy.infer(observe()).sequence == 3
    with pytest.raises(PolicyError, match="256 different tokens"):
        make(folders["paligemma"], answer="tokens", tokens=[1, 2]).load()
