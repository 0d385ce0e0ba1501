"""The torch path against outputs of the original code (JAX) on tiny random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from vla_ros.actions.normalization import ActionStatistics, NormalizationKind, unnormalize  # noqa: E402
from vla_ros.policies.octo.checkpoint import octo_from_arrays  # noqa: E402
from vla_ros.policies.octo.config import read_config  # noqa: E402
from vla_ros.policies.octo.flax_msgpack import flatten, read_flax  # noqa: E402
from vla_ros.policies.octo.model import Octo, Sequence, Tokens  # noqa: E402
from vla_ros.policies.octo.schedule import cosine_schedule  # noqa: E402

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "parity" / "octo"
CASES = ("A_lang", "D_no_wrist", "E_window1")

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the original's outputs are not there: {FOLDER}")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def fixture() -> dict[str, Any]:
    with np.load(FOLDER / "fixture.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def model() -> Octo:
    arrays = flatten(read_flax(FOLDER / "checkpoint" / "300000" / "default" / "checkpoint"))
    found = octo_from_arrays(arrays, read_config(FOLDER / "checkpoint" / "config.json"), "checkpoint")
    return found.eval().requires_grad_(False)


class Case:
    """One case's inputs, as tensors."""

    def __init__(self, model: Octo, fixture: dict[str, Any], name: str) -> None:
        self.name = name
        self.fixture = fixture
        self.model = model
        self.steps = self.tensor("in/timestep_pad_mask")
        language = "in/task/language_instruction"
        assert model.language is not None
        tokens = model.language(
            self.tensor(f"{language}/input_ids"), self.tensor(f"{language}/attention_mask")
        )
        self.task = Tokens(tokens, self.tensor("in/task/pad_mask_dict/language_instruction"))
        self.frames = {}
        for one in model.config.images:
            if f"{name}/in/observation/{one.key}" in fixture:
                images = self.tensor(f"in/observation/{one.key}")
                goals = self.tensor(f"in/task/{one.key}")[:, None].expand(images.shape)
                found = model.frame_tokens(one.name, images.flatten(0, 1), goals.flatten(0, 1))
                self.frames[one.name] = Tokens(
                    found.unflatten(0, images.shape[:2]),
                    self.tensor(f"in/observation/pad_mask_dict/{one.key}"),
                )

    def tensor(self, key: str) -> Any:
        return torch.from_numpy(np.array(self.fixture[f"{self.name}/{key}"]))

    def groups(self) -> Any:
        return self.model.groups(self.frames, self.task, self.steps)

    def embeddings(self) -> Any:
        return self.model.embeddings(self.model.attend(*self.groups())[1])


@pytest.fixture(scope="module", params=CASES)
def case(request: Any, model: Octo, fixture: dict[str, Any]) -> Case:
    return Case(model, fixture, request.param)


def furthest(a: Any, b: Any) -> float:
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).max())


def test_the_checkpoint_is_read_exactly() -> None:
    read = flatten(read_flax(FOLDER / "checkpoint" / "300000" / "default" / "checkpoint"))
    with np.load(FOLDER / "params.npz") as params:
        assert set(read) == set(params.files)
        for name in params.files:
            assert read[name].dtype == params[name].dtype
            assert np.array_equal(read[name], params[name]), name


def test_the_schedule(fixture: dict[str, Any]) -> None:
    plan = cosine_schedule(20)
    assert furthest(plan.betas, fixture["schedule/betas"]) < 1e-6
    assert furthest(plan.alphas, fixture["schedule/alphas"]) < 1e-6
    assert furthest(plan.products, fixture["schedule/alpha_hats"]) < 1e-6


def test_the_instruction(model: Octo, fixture: dict[str, Any]) -> None:
    language = "A_lang/in/task/language_instruction"
    assert model.language is not None
    hidden = model.language.encoder(
        torch.from_numpy(fixture[f"{language}/input_ids"]),
        torch.from_numpy(fixture[f"{language}/attention_mask"]),
    )
    assert furthest(hidden, fixture["A_lang/t5_last_hidden"]) < 1e-5


@pytest.mark.parametrize("folded", [False, True])
def test_the_stem(model: Octo, fixture: dict[str, Any], folded: bool) -> None:
    images = torch.from_numpy(fixture["A_lang/in/observation/image_primary"])
    goals = torch.from_numpy(fixture["A_lang/in/task/image_primary"])[:, None].expand(images.shape)
    stem = model.cameras["primary"].stem
    if folded:
        arrays = flatten(read_flax(FOLDER / "checkpoint" / "300000" / "default" / "checkpoint"))
        other = octo_from_arrays(arrays, model.config, "checkpoint")
        other.fold()
        stem = other.cameras["primary"].stem
    features = stem(torch.cat([images, goals], dim=-1).flatten(0, 1))
    assert furthest(features, fixture["A_lang/stem_primary"]) < 1e-5


def test_masks_and_tokens(case: Case, fixture: dict[str, Any]) -> None:
    task, step = case.groups()
    of_task, of_step, mask = case.model.attend(task, step)
    expected = fixture[f"{case.name}/attention_mask"][:, 0]
    assert np.array_equal(mask.numpy(), expected)
    for name, group in {**task, **step}.items():
        found = {**of_task, **of_step}[name]
        assert furthest(found, fixture[f"{case.name}/out/{name}/tokens"]) < 1e-5, name
        assert np.array_equal(group.mask.numpy(), fixture[f"{case.name}/out/{name}/mask"].astype(bool)), name


def test_less_work_gives_the_same(case: Case) -> None:
    names = tuple(case.frames)
    sequence = Sequence(case.model, names, case.steps.shape[1])
    found = sequence(
        case.task.tokens,
        case.task.mask,
        [case.frames[name].tokens for name in sequence.names],
        [case.frames[name].mask & case.steps for name in sequence.names],
    )
    assert furthest(found, case.embeddings()[:, -1]) < 1e-5


def test_noise_step_by_step(case: Case, fixture: dict[str, Any]) -> None:
    embedding = case.embeddings()
    recorded = fixture[f"{case.name}/diffusion/x_steps"]
    before = [fixture[f"{case.name}/diffusion/noise_init"], *recorded[:-1]]
    for index, actions in enumerate(before):
        time = torch.full((*actions.shape[:-1], 1), 19.0 - index)
        noise = case.model.head.network(embedding, time, torch.from_numpy(actions))
        assert furthest(noise, fixture[f"{case.name}/diffusion/eps_pred"][index]) < 1e-5


def test_actions(case: Case, fixture: dict[str, Any]) -> None:
    noise = case.tensor("diffusion/noise_init")
    steps = case.tensor("diffusion/noise_steps")
    flat = case.model.head.sample(case.embeddings()[:, -1], noise[:, -1], steps[:, :, -1])
    actions = flat.view(-1, 4, 7).numpy()
    assert furthest(actions, fixture[f"{case.name}/diffusion/action_normalized"]) < 1e-3
    content = json.loads((FOLDER / "checkpoint" / "dataset_statistics.json").read_text())
    statistics = ActionStatistics.from_mapping(content["tiny_ds"]["action"])
    for kind, name in ((NormalizationKind.NORMAL, "normal"), (NormalizationKind.BOUNDS_Q99, "bounds")):
        expected = fixture[f"{case.name}/action_unnormalized_{name}"]
        recorded = fixture[f"{case.name}/diffusion/action_normalized"].astype(float)
        assert furthest(unnormalize(recorded, kind, statistics), expected) < 2e-6
        assert furthest(unnormalize(actions.astype(float), kind, statistics), expected) < 1e-3


def test_a_robot_of_five_dimensions(model: Octo, fixture: dict[str, Any]) -> None:
    case = Case(model, fixture, "A_lang")
    noise, steps = case.tensor("embodiment5/noise_init"), case.tensor("embodiment5/noise_steps")
    kept = torch.tensor([True] * 5 + [False] * 2).repeat(4)
    flat = model.head.sample(case.embeddings()[:, -1], noise[:, -1], steps[:, :, -1], kept)
    assert furthest(flat.view(-1, 4, 7), fixture["A_lang/embodiment5/action"]) < 1e-3
