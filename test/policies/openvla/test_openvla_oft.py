"""OpenVLA-OFT beside a plain second reading of it, its files, and as a policy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("transformers", reason="the extra 'torch' is not installed")
pytest.importorskip("tokenizers", reason="the extra 'torch' is not installed")

import openvla_checkpoint as tiny  # noqa: E402
from oft_checkpoint import CHUNK, STATE, WIDTH, assembled, write_film, write_parts  # noqa: E402
from oft_reading import second_reading  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from vla_ros.actions import decode, get_action_space  # noqa: E402
from vla_ros.errors import InstructionError, ObservationError, PolicyError  # noqa: E402
from vla_ros.policies.openvla.engine import PRECISIONS  # noqa: E402
from vla_ros.policies.openvla.model import OpenVlaModel  # noqa: E402
from vla_ros.policies.openvla.oft import make_openvla_oft  # noqa: E402
from vla_ros.policies.openvla.oft.checkpoint import load_oft  # noqa: E402
from vla_ros.policies.openvla.oft.heads import ActionHead, StateProjector  # noqa: E402
from vla_ros.policies.openvla.oft.images import lanczos, prepare  # noqa: E402
from vla_ros.policies.openvla.oft.model import OftModel  # noqa: E402
from vla_ros.policies.openvla.oft.runner import Runner  # noqa: E402
from vla_ros.policies.openvla.oft.state import read_state  # noqa: E402
from vla_ros.policies.openvla.preprocess import pixels  # noqa: E402
from vla_ros.policies.openvla.prompt import SPACE  # noqa: E402
from vla_ros.policies.registry import make_policy  # noqa: E402
from vla_ros.robots import load_robot  # noqa: E402

PANDA = load_robot("panda")
PRIMARY, WRIST = list(PANDA.cameras)[:2]
CPU = torch.device("cpu")
HEAD, TOLD = "action_head--150000_checkpoint.pt", "proprio_projector--150000_checkpoint.pt"
STATISTICS = {"libero_spatial_no_noops": {"action": tiny.ACTION, "proprio": tiny.proprio(STATE)}}
OPTIONS: dict[str, Any] = {"towers": tiny.TOWERS, "device": "cpu", "action_space": "bridge"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> OpenVlaModel:
    return tiny.random_model(tiny.write_config(tmp_path_factory.mktemp("base"), statistics=STATISTICS))


def inputs(seed: int = 0, cameras: int = 2) -> tuple[Any, Any, Any]:
    torch.manual_seed(100 + seed)
    images = torch.randn(1, 6 * cameras, tiny.SIZE, tiny.SIZE)
    ids = torch.cat(
        (torch.tensor([[1]]), torch.randint(3, 259, (1, 6 + seed)), torch.tensor([[SPACE]])), dim=1
    )
    return images, ids, torch.rand(1, STATE) * 2.0 - 1.0


@pytest.mark.parametrize(("film", "state", "cameras"), [(False, True, 2), (True, True, 2), (True, False, 1)])
def test_the_model_beside_a_second_reading(base: OpenVlaModel, film: bool, state: bool, cameras: int) -> None:
    model = assembled(base, film, state)
    images, ids, told = inputs(cameras=cameras)
    with torch.no_grad():
        ours = model(images, ids, told if state else None)[0].numpy()
    theirs = second_reading(model, images, ids, told)
    assert ours.shape == (CHUNK, 7) and np.abs(theirs).max() > 0.1
    assert np.abs(ours - theirs).max() <= 1e-5


def test_every_input_counts(base: OpenVlaModel) -> None:
    """Each image, the state, and words after others: nobody is masked."""
    model = assembled(base, False)
    images, ids, told = inputs()
    with torch.no_grad():
        first = model(images, ids, told)
        for change in range(4):
            other = [images.clone(), ids.clone(), told.clone()]
            if change < 2:
                other[0][:, 6 * change] += 1.0
            elif change == 2:
                other[1][0, -2] += 1
            else:
                other[2][0, 3] += 0.5
            assert (model(*other) - first).abs().max() > 1e-5, change


@pytest.mark.parametrize("film", [False, True])
def test_the_runner_answers_what_the_model_answers(base: OpenVlaModel, film: bool) -> None:
    """Alone and together, prompts of unlike length too."""
    import copy

    model = assembled(copy.deepcopy(base), film)
    cases = [inputs(0), inputs(2), inputs(0), inputs(1)]
    with torch.no_grad():
        alone = np.concatenate([model(*case).numpy() for case in cases])
    runner = Runner(model, "fp32", CPU)
    images, states = torch.cat([case[0] for case in cases]), torch.cat([case[2] for case in cases]).numpy()
    answer = runner.generate(images, [case[1][0].numpy() for case in cases], states)
    assert np.abs(answer.values - alone).max() <= 1e-5
    assert list(answer.seconds) == ["upload", "vision", "prefill", "decode"]


def test_weights_in_few_bits_are_near(base: OpenVlaModel) -> None:
    import copy

    images, ids, told = inputs()
    with torch.no_grad():
        exact = assembled(base, False)(images, ids, told).numpy()
    for precision in ("fp8", "int8"):
        assert precision in PRECISIONS
        runner = Runner(assembled(copy.deepcopy(base), False), precision, CPU)
        values = runner.generate(images, [ids[0].numpy()], told.numpy()).values
        assert 0.0 < np.abs(values - exact).max() < 0.3, precision


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OftModel]:
    folder = tmp_path_factory.mktemp("oft")
    model = assembled(
        tiny.write_checkpoint(folder, statistics={"bridge_orig": {"action": tiny.ACTION}}), False
    )
    (folder / "dataset_statistics.json").write_text(json.dumps(STATISTICS))
    write_parts(folder, model)
    return folder, model


def loaded(folder: Path, base: Path, model: OftModel) -> OftModel:
    return load_oft(folder, base, model.base.config, 7, CHUNK, CPU, torch.float32)


def test_a_checkpoint_is_loaded(checkpoint: tuple[Path, OftModel]) -> None:
    folder, model = checkpoint
    again = loaded(folder, folder, model)
    with torch.no_grad():
        assert torch.equal(again(*inputs()), model(*inputs()))


def test_film_brings_its_towers(checkpoint: tuple[Path, OftModel], tmp_path: Path) -> None:
    folder, model = checkpoint
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    filmed = assembled(model.base, True)
    plain = write_film(tmp_path, filmed)
    again = loaded(tmp_path, tmp_path, model)
    for name, value in again.base.vision_backbone.state_dict().items():
        assert (value - plain[name]).abs().max() <= 1e-6, name
    assert again.film is not None and filmed.film is not None
    for name, value in again.film.state_dict().items():
        assert torch.equal(value, filmed.film.state_dict()[name]), name


def test_film_that_does_not_fit(checkpoint: tuple[Path, OftModel], tmp_path: Path) -> None:
    folder, model = checkpoint
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    write_film(tmp_path, assembled(model.base, True))
    path = tmp_path / "vision_backbone--150000_checkpoint.pt"
    good = {name: value.clone() for name, value in torch.load(path, weights_only=True).items()}
    stem = "vision_backbone.featurizer.blocks.0.block.attn.qkv"
    changes: list[tuple[dict[str, Any], str]] = [
        ({f"{stem}.base_layer.weight": None}, "lacks 'vision_backbone.featurizer.blocks.0.attn.qkv.weight'"),
        ({"vision_backbone.more": torch.ones(1)}, "has too many tensors: 'vision_backbone.more'"),
        ({f"{stem}.base_layer.bias": torch.ones(1)}, r"has shape \(1,\), but \(48,\) is due"),
        ({f"{stem}.lora_A.default.weight": None}, "lacks a half or its weight, or does not fit it"),
        ({f"{stem}.lora_B.default.weight": torch.ones(3, 32)}, "lacks a half or its weight, or does not fit"),
        (
            {"vision_backbone.featurizer.blocks.0.scale.bias": None},
            "lacks tensors: featurizer.blocks.0.scale.bias",
        ),
    ]
    for change, message in changes:
        table = {name: value for name, value in {**good, **change}.items() if value is not None}
        torch.save(table, path)
        with pytest.raises(PolicyError, match=message):
            loaded(tmp_path, tmp_path, model)


def test_an_adapter_is_merged_into_its_base(checkpoint: tuple[Path, OftModel], tmp_path: Path) -> None:
    folder, model = checkpoint
    adapter = tmp_path / "lora_adapter"
    adapter.mkdir()
    write_parts(tmp_path, model)
    torch.manual_seed(8)
    a, b = torch.randn(2, WIDTH), torch.randn(WIDTH, 2)
    stem = "base_model.model.language_model.model.layers.1.self_attn.q_proj.lora_{}.weight"
    save_file({stem.format("A"): a, stem.format("B"): b}, adapter / "adapter_model.safetensors")
    table = {"peft_type": "LORA", "r": 2, "lora_alpha": 1, "base_model_name_or_path": str(folder)}
    (adapter / "adapter_config.json").write_text(json.dumps(table))
    (tmp_path / "dataset_statistics.json").write_text(json.dumps(STATISTICS))
    again = loaded(tmp_path, folder, model)
    name = "language_model.model.layers.1.self_attn.q_proj.weight"
    assert (again.base.get_parameter(name) - model.base.get_parameter(name) - 0.5 * b @ a).abs().max() <= 1e-6
    for options in ({}, {"base": str(folder)}):
        policy = make_openvla_oft(PANDA, checkpoint=str(tmp_path), **OPTIONS, **options)
        policy.load()
        policy.reset("stop")
        assert policy.infer(tiny.observation(PANDA)).values is not None


def test_it_is_a_policy(checkpoint: tuple[Path, OftModel]) -> None:
    folder, model = checkpoint
    options = {**OPTIONS, "wrist_camera": WRIST, "crop": False}
    policy = make_policy("openvla_oft", PANDA, checkpoint=str(folder), **options)
    needs = policy.requirements
    assert [camera.name for camera in needs.cameras] == [PRIMARY, WRIST]
    assert (needs.horizon, needs.action_space, needs.rate, needs.codec) == (8, "bridge", 5.0, None)
    assert needs.normalization is not None and needs.normalization.kind.value == "bounds_q99"
    policy.load()
    seen = tiny.observation(PANDA, 4)
    with pytest.raises(PolicyError, match="no instruction"):
        policy.infer(seen)
    with pytest.raises(InstructionError, match="empty"):
        policy.reset("")
    policy.reset("Pick up the cup")
    output = policy.infer(seen)
    words = b"In: What action should the robot take to pick up the cup?\nOut:"
    ids = torch.tensor([[1, *(3 + byte for byte in words), SPACE]])
    frames = [prepare(seen.images[name].rgb, model.base.config, False) for name in (PRIMARY, WRIST)]
    state = read_state(seen, "libero", PANDA)
    scaled = np.clip(2.0 * (state + 1.0) / 2.5 - 1.0, -1.0, 1.0)
    with torch.no_grad():
        expected = model(
            torch.from_numpy(np.concatenate(frames)[None]),
            ids,
            torch.tensor(scaled[None], dtype=torch.float32),
        )[0].numpy()
    assert output.values is not None and output.tokens is None
    assert np.abs(output.values - expected).max() <= 1e-5
    assert output.normalization_key == "libero_spatial_no_noops" and output.stamp == 1004
    chunk = decode(output, get_action_space("bridge"), PANDA.gripper, needs.normalization)
    assert chunk.horizon == 8
    with pytest.raises(ObservationError, match=f"needs camera '{WRIST}'"):
        policy.infer(replace(seen, images={PRIMARY: seen.images[PRIMARY]}))
    together = policy.infer_batch([replace(seen, instruction=text) for text in ("stop", "Pick up the cup")])
    assert np.abs(together[1].values - output.values).max() <= 1e-5
    assert np.abs(together[0].values - output.values).max() > 1e-4


def test_the_state_in_every_layout() -> None:
    seen = tiny.observation(PANDA)
    libero, bridge = (read_state(seen, layout, PANDA) for layout in ("libero", "bridge"))
    assert libero[:3].tolist() == bridge[:3].tolist() == [0.4, 0.1, 0.3]
    assert libero[6:].tolist() == [0.02, -0.02] and bridge[6] == pytest.approx(0.04 / PANDA.gripper.max_width)
    turn = PANDA.state_rotation
    # (0.6, 0, 0.8, 0) is half a turn about (0.6, 0, 0.8)
    axis = np.array([0.6, 0.0, 0.8])
    expected = (2.0 * np.outer(axis, axis) - np.eye(3)) @ turn
    assert np.abs(rodrigues(libero[3:6]) - expected).max() <= 1e-9
    x, y, z = (rodrigues(angle * np.eye(3)[i]) for i, angle in enumerate(bridge[3:6]))
    assert np.abs(z @ y @ x - expected).max() <= 1e-9
    joints = read_state(seen, "joints", PANDA)
    assert joints[:-1].tolist() == PANDA.home.tolist() and joints[-1] == bridge[6]


def rodrigues(vector: np.ndarray) -> np.ndarray:
    angle = float(np.linalg.norm(vector))
    if angle == 0.0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross)


@pytest.mark.parametrize("shape", [(48, 64), (20, 90), (28, 28), (9, 13)])
def test_lanczos_is_that_of_training(shape: tuple[int, int]) -> None:
    """Beside the formula: half-pixel centres, three lobes, a kernel that widens when it shrinks."""
    values = np.random.default_rng(6).integers(0, 256, (*shape, 3)).astype(np.float32)
    exact = values.astype(float)
    for axis in (0, 1):
        n = shape[axis]
        ratio = max(n / tiny.SIZE, 1.0)
        weights = np.zeros((tiny.SIZE, n))
        for out in range(tiny.SIZE):
            for i in range(n):
                t = (i + 0.5 - (out + 0.5) * n / tiny.SIZE) / ratio
                weights[out, i] = np.sinc(t) * np.sinc(t / 3.0) if abs(t) < 3.0 else 0.0
        weights /= weights.sum(axis=1, keepdims=True)
        exact = np.moveaxis(np.tensordot(weights, exact, axes=(1, axis)), 0, axis)
    ours = lanczos(values, tiny.SIZE).astype(float)
    assert np.abs(ours - np.clip(exact, 0.0, 255.0)).max() <= 0.5 + 1e-2


def test_a_frame_of_the_right_size_goes_through_no_jpeg(base: OpenVlaModel) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (tiny.SIZE, tiny.SIZE, 3), dtype=np.uint8)
    assert np.array_equal(prepare(frame, base.config, False), pixels(frame, base.config))
    with pytest.raises(ObservationError, match="must be"):
        prepare(frame[..., 0], base.config, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / HEAD).unlink(), "action_head--.*pt is missing"),
        (lambda f: (f / "action_head--7_checkpoint.pt").touch(), "several files of action_head, but one"),
        (lambda f: (f / "noisy_action_projector--1_checkpoint.pt").touch(), "has a diffusion head, but only"),
        (lambda f: torch.save({"x": torch.ones(1)}, f / HEAD), "lacks tensors"),
        (lambda f: (f / HEAD).write_bytes(b"PK"), "is no file of tensors"),
        (
            lambda f: torch.save(ActionHead(WIDTH, 6).state_dict(), f / HEAD),
            "has shape .*, but .* is needed",
        ),
        (lambda f: torch.save({}, f / TOLD), "lacks the matrix fc1.weight"),
        (
            lambda f: torch.save(
                StateProjector(9, WIDTH).state_dict(), f / TOLD
            ),
            "is told a state of 9 numbers, but the statistics of 'libero_spatial_no_noops' have 8",
        ),
        (lambda f: torch.save({}, f / "vision_backbone--1_checkpoint.pt"), "lacks tensors"),
        (lambda f: (f / "model.safetensors.index.json").unlink(), "neither whole weights nor a folder"),
    ],
)  # fmt: skip
def test_a_broken_checkpoint_is_said(
    checkpoint: tuple[Path, OftModel], tmp_path: Path, change: Any, message: str
) -> None:
    for file in checkpoint[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change(tmp_path)
    with pytest.raises(PolicyError, match=message) as error:
        make_openvla_oft(PANDA, checkpoint=str(tmp_path), **OPTIONS).load()
    assert "\n" not in str(error.value)


def test_a_state_that_nobody_can_tell(checkpoint: tuple[Path, OftModel], tmp_path: Path) -> None:
    for file in checkpoint[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    entry = STATISTICS["libero_spatial_no_noops"]
    for name, table, message in (
        ("kitchen", entry, "how 'kitchen' lays it out is unknown; say it by the option 'state'"),
        ("kitchen", {"action": tiny.ACTION}, "have no section 'proprio'"),
        ("kitchen", {**entry, "proprio": tiny.proprio(7)}, "a state of 8 numbers, but .* 'kitchen' have 7"),
    ):
        (tmp_path / "dataset_statistics.json").write_text(json.dumps({name: table}))
        with pytest.raises(PolicyError, match=message):
            make_openvla_oft(PANDA, checkpoint=str(tmp_path), **OPTIONS).load()
    (tmp_path / "dataset_statistics.json").write_text(json.dumps({"kitchen": entry}))
    policy = make_openvla_oft(PANDA, checkpoint=str(tmp_path), state="joints", **OPTIONS)
    policy.load()
    policy.reset("stop")
    assert policy.infer(tiny.observation(PANDA)).values is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint": ""}, "needs the option 'checkpoint'"),
        ({"precision": "fp4"}, "precision is 'fp4', known are auto, fp32"),
        ({"device": "tpu"}, "device is 'tpu', known are auto"),
        ({"normalization": "normal"}, "normalization is 'normal', known are bounds_q99, bounds"),
        ({"state": "polar"}, "state is 'polar'"),
        ({"chunk": 1000}, "chunk is 1000, but must be 1 to 100 steps"),
        ({"normalization_key": "x"}, "has no data set 'x', there is libero_spatial_no_noops"),
        ({"wrist_camera": "roof"}, "shown camera 'roof', but robot 'panda' has"),
        ({"action_space": "joint_position"}, "have 7 dimensions, but action space 'joint_position' has 8"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_loaded(
    checkpoint: tuple[Path, OftModel], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PolicyError, match=message):
        make_openvla_oft(PANDA, **{"checkpoint": str(checkpoint[0]), **OPTIONS, **options})
