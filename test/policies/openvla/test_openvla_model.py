"""The model beside other libraries' readings of its parts, and pixels beside plain loops."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
transformers = pytest.importorskip("transformers", reason="the extra 'torch' is not installed")

import openvla_checkpoint as tiny  # noqa: E402

from vla_ros.actions.tokens import TokenCodec  # noqa: E402
from vla_ros.errors import InstructionError, ObservationError, PolicyError  # noqa: E402
from vla_ros.policies.openvla.checkpoint import load_model  # noqa: E402
from vla_ros.policies.openvla.config import OpenVlaConfig, read_config  # noqa: E402
from vla_ros.policies.openvla.factory import tower_sizes  # noqa: E402
from vla_ros.policies.openvla.llama import LlamaConfig  # noqa: E402
from vla_ros.policies.openvla.loss import IGNORED, action_loss  # noqa: E402
from vla_ros.policies.openvla.model import OpenVlaModel  # noqa: E402
from vla_ros.policies.openvla.preprocess import center_crop, pixels  # noqa: E402
from vla_ros.policies.openvla.prompt import SPACE, load_tokenizer, prompt, with_space  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> OpenVlaConfig:
    return tiny.write_config(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def model(config: OpenVlaConfig) -> OpenVlaModel:
    return tiny.random_model(config)


def images(count: int = 1) -> Any:
    torch.manual_seed(9)
    return torch.randn(count, 6, tiny.SIZE, tiny.SIZE)


def loaded(module: Any, table: dict[str, Any]) -> Any:
    """The rest, what this project leaves out, stays random."""
    missing, unexpected = module.load_state_dict(table, strict=False)
    assert not unexpected, unexpected
    return module.eval()


def test_dino_is_that_of_transformers(model: OpenVlaModel) -> None:
    tower = model.config.towers[0]
    theirs = transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(
            hidden_size=tower.width, num_hidden_layers=tower.depth, num_attention_heads=tower.heads,
            image_size=tiny.SIZE, patch_size=14, num_register_tokens=4, layer_norm_eps=1e-6, mlp_ratio=4,
        )
    )  # fmt: skip
    ours = model.vision_backbone.featurizer
    own = ours.state_dict()
    # the class token has no position of its own: it is left where it is
    position = torch.cat((torch.zeros(1, 1, tower.width), own["pos_embed"]), dim=1)
    table = {
        "embeddings.cls_token": own["cls_token"], "embeddings.register_tokens": own["reg_token"],
        "embeddings.position_embeddings": position,
        "embeddings.patch_embeddings.projection.weight": own["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": own["patch_embed.proj.bias"],
    }  # fmt: skip
    # called so in newer versions, otherwise before
    names, out = ("q_proj", "k_proj", "v_proj"), "o_proj"
    if not any(name.endswith("attention.q_proj.weight") for name in theirs.state_dict()):
        names, out = ("attention.query", "attention.key", "attention.value"), "output.dense"
    for index in range(tower.depth - 1):
        a, b = f"blocks.{index}.", f"encoder.layer.{index}."
        for kind in ("weight", "bias"):
            parts = own[f"{a}attn.qkv.{kind}"].chunk(3)
            for name, part in zip(names, parts, strict=True):
                table[f"{b}attention.{name}.{kind}"] = part
            table[f"{b}attention.{out}.{kind}"] = own[f"{a}attn.proj.{kind}"]
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                table[f"{b}{name}.{kind}"] = own[f"{a}{name}.{kind}"]
        for number in (1, 2):
            table[f"{b}layer_scale{number}.lambda1"] = own[f"{a}ls{number}.scale_factor"]
    loaded(theirs, table)
    shown = images(2)[:, :3]
    with torch.no_grad():
        states = theirs(shown, output_hidden_states=True).hidden_states
        assert (ours(shown) - states[tower.depth - 1][:, 5:]).abs().max() <= 1e-5


def test_siglip_is_that_of_transformers(model: OpenVlaModel) -> None:
    tower = model.config.towers[1]
    theirs = transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(
            hidden_size=tower.width, num_hidden_layers=tower.depth, num_attention_heads=tower.heads,
            intermediate_size=tower.hidden, image_size=tiny.SIZE, patch_size=14, layer_norm_eps=1e-6,
            hidden_act="gelu",
        )
    )  # fmt: skip
    ours = model.vision_backbone.fused_featurizer
    assert ours is not None
    own = ours.state_dict()
    names = list(theirs.state_dict())
    head = "vision_model." if names[0].startswith("vision_model.") else ""
    table = {
        "embeddings.patch_embedding.weight": own["patch_embed.proj.weight"],
        "embeddings.patch_embedding.bias": own["patch_embed.proj.bias"],
        "embeddings.position_embedding.weight": own["pos_embed"][0],
    }
    for index in range(tower.depth - 1):
        a, b = f"blocks.{index}.", f"encoder.layers.{index}."
        for kind in ("weight", "bias"):
            parts = own[f"{a}attn.qkv.{kind}"].chunk(3)
            for name, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                table[f"{b}self_attn.{name}.{kind}"] = part
            for to, name in (
                ("self_attn.out_proj", "attn.proj"), ("layer_norm1", "norm1"), ("layer_norm2", "norm2"),
                ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2"),
            ):  # fmt: skip
                table[f"{b}{to}.{kind}"] = own[f"{a}{name}.{kind}"]
    loaded(theirs, {head + name: value for name, value in table.items()})
    shown = images(2)[:, 3:]
    with torch.no_grad():
        states = theirs(shown, output_hidden_states=True).hidden_states
        assert (ours(shown) - states[tower.depth - 1]).abs().max() <= 1e-5


def test_the_whole_is_llama_behind_patches(model: OpenVlaModel) -> None:
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**tiny.TEXT, rms_norm_eps=1e-6))
    theirs.load_state_dict(model.language_model.state_dict())
    ids = torch.tensor([[1, 50, 60, 70, SPACE]])
    with torch.no_grad():
        features = model.vision_backbone(images())
        projector = model.projector
        assert projector.fc3 is not None
        x = torch.nn.functional.gelu(features @ projector.fc1.weight.T + projector.fc1.bias)
        x = torch.nn.functional.gelu(x @ projector.fc2.weight.T + projector.fc2.bias)
        patches = x @ projector.fc3.weight.T + projector.fc3.bias
        words = theirs.get_input_embeddings()(ids)
        sequence = torch.cat((words[:, :1], patches, words[:, 1:]), dim=1)
        logits = theirs.eval()(inputs_embeds=sequence).logits
        assert (model.logits(images(), ids) - logits).abs().max() <= 1e-5


def test_what_only_fills_up_changes_nothing(model: OpenVlaModel) -> None:
    """Rows of different length, filled up on the right."""
    rows = [[1, 5, 6, 7, 8], [1, 9, SPACE], [1, 4, 4, SPACE]]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [32000] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
    shown = images(3)
    with torch.no_grad():
        together = model(shown, ids, mask)
        for index, row in enumerate(rows):
            alone = model(shown[index : index + 1], torch.tensor([row]))
            assert (together[index, : alone.shape[1]] - alone[0]).abs().max() <= 1e-5


def test_one_tower_has_a_projector_of_two_layers(tmp_path: Path) -> None:
    given = tiny.write_config(tmp_path, names=(tiny.SIGLIP,), llm_backbone_id="vicuna-v15-7b")
    single = tiny.random_model(given)
    assert given.conversation and single.projector.fc3 is None
    assert single.vision_backbone.fused_featurizer is None
    with torch.no_grad():
        assert single.logits(images()[:, :3], torch.tensor([[1, 5, SPACE]])).shape == (1, 3 + 4, 32064)


def test_loss_beside_a_plain_loop() -> None:
    random = np.random.default_rng(4)
    patches, codec = 3, TokenCodec(320)
    labels = np.full((2, 6), IGNORED)
    labels[0, 3:] = [70, 300, 2]
    labels[1, 2:5] = [319, 64, 2]
    logits = random.normal(size=(2, 6 + patches, 320)).astype(np.float32)
    logits[0, patches + 2, 70] = 50.0
    loss = action_loss(torch.from_numpy(logits), torch.from_numpy(labels), patches, codec)
    total, right, count, distances = [], 0, 0, []
    for row in range(2):
        for place in range(1, 6):
            label = labels[row, place]
            if label == IGNORED:
                continue
            scores = logits[row, patches + place - 1].astype(float)
            total.append(math.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[label])
            if label >= 64:
                count += 1
                likeliest = int(scores.argmax())
                right += likeliest == label
                distances.append(abs(centre(likeliest) - centre(int(label))))
    assert float(loss.value) == pytest.approx(np.mean(total), rel=1e-5)
    assert loss.accuracy == pytest.approx(right / count) and right == 1
    assert loss.l1 == pytest.approx(np.mean(distances), abs=1e-9)


def centre(token: int) -> float:
    index = min(max(320 - token - 1, 0), 254)
    return -1.0 + (index + 0.5) * 2.0 / 255.0


frames = st.tuples(st.integers(3, 60), st.integers(3, 60), st.integers(0, 2**32 - 1))


def frame(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(frames)
def test_the_crop_is_bilinear_between_the_corners_of_the_middle(shape: tuple[int, int, int]) -> None:
    image, size = frame(*shape), 9
    ours = center_crop(image, size).astype(int)
    side = math.sqrt(0.9)
    for row in range(size):
        for column in range(size):
            y = ((1 - side) / 2 + side * row / (size - 1)) * (shape[0] - 1)
            x = ((1 - side) / 2 + side * column / (size - 1)) * (shape[1] - 1)
            top, left = int(y), int(x)
            down, right = min(top + 1, shape[0] - 1), min(left + 1, shape[1] - 1)
            dy, dx = y - top, x - left
            exact = (
                (1 - dy) * ((1 - dx) * image[top, left] + dx * image[top, right])
                + dy * ((1 - dx) * image[down, left] + dx * image[down, right])
            )  # fmt: skip
            # from 0..1 back to 8 bits by 255.5 and cutting off: rounding, but for the last bit of fp32
            assert (np.abs(ours[row, column] - np.floor(exact * (255.5 / 255.0) + 1e-3)) <= 1).all()
            assert (ours[row, column] >= np.floor(exact * (255.5 / 255.0) - 2e-3)).all()
            assert (ours[row, column] <= np.floor(exact * (255.5 / 255.0) + 2e-3)).all()


@given(frames)
def test_pixels_of_every_way_to_resize(shape: tuple[int, int, int]) -> None:
    image = frame(*shape)
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    std = np.array([0.229, 0.224, 0.225], np.float32)
    for strategy in ("resize-naive", "resize-crop", "letterbox"):
        ours = pixels(image, replace(CONFIG, resizing=strategy))
        assert ours.shape == (6, tiny.SIZE, tiny.SIZE) and ours.dtype == np.float32
        picture = reference(image, strategy).astype(np.float32) / np.float32(255.0)
        assert np.array_equal(ours[:3], ((picture - mean) / std).transpose(2, 0, 1)), strategy
        assert np.array_equal(ours[3:], ((picture - np.float32(0.5)) / np.float32(0.5)).transpose(2, 0, 1))


CONFIG = OpenVlaConfig(
    tuple(tower_sizes(tiny.TOWERS).values())[:2], tiny.SIZE, "resize-naive", tiny.TEXT, 32000, False, {}, "x"
)  # fmt: skip


def reference(image: np.ndarray, strategy: str) -> np.ndarray:
    """The original's steps, written with arrays: pad, resize, cut."""
    height, width = image.shape[:2]
    if strategy == "letterbox":
        side = max(height, width)
        rows, columns = int((side - height) / 2), int((side - width) / 2)
        image = np.pad(image, ((rows, rows), (columns, columns), (0, 0)), constant_values=127)
        height, width = image.shape[:2]
    size = tiny.SIZE
    if strategy == "resize-naive":
        width, height = size, size
    elif height < width:
        width, height = int(size * width / height), size
    else:
        width, height = size, int(size * height / width)
    resized = np.asarray(Pillow.fromarray(image).resize((width, height), Pillow.Resampling.BICUBIC))
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return resized[top : top + size, left : left + size]


def test_a_frame_that_is_none() -> None:
    for bad in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ObservationError, match=r"must be \(h, w, 3\) of uint8"):
            pixels(bad, CONFIG)  # type: ignore[arg-type]


def test_the_prompt_of_both_generations(tmp_path: Path) -> None:
    assert prompt("Put the CUP down") == "In: What action should the robot take to put the cup down?\nOut:"
    spoken = prompt("Stop", conversation=True)
    assert spoken.startswith("A chat between a curious user") and spoken.endswith(" ASSISTANT:")
    assert "USER: What action should the robot take to stop? ASSISTANT:" in spoken
    with pytest.raises(InstructionError, match="is empty"):
        prompt("  ")
    assert with_space([1, 2]).tolist() == [1, 2, SPACE] == with_space([1, 2, SPACE]).tolist()
    tiny.write_tokenizer(tmp_path)
    assert load_tokenizer(tmp_path)("In") == [1, 3 + ord("I"), 3 + ord("n")]
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(PolicyError, match="cannot be read"):
        load_tokenizer(tmp_path)
    with pytest.raises(PolicyError, match="has no tokenizer: neither tokenizer.json nor tokenizer.model"):
        load_tokenizer(tmp_path / "none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llava"}, "of type 'llava', not openvla"),
        ({"timm_model_ids": ["resnet"]}, "names the vision towers resnet, known are"),
        ({"timm_model_ids": []}, "names the vision towers none"),
        ({"image_resize_strategy": "squash"}, "image_resize_strategy is 'squash', known are resize-naive"),
        ({"image_sizes": [28, 56]}, "must be one size"),
        ({"image_sizes": ["28"]}, "must be one size"),
        ({"timm_model_ids": [["x"]]}, "timm_model_ids must be a list of names"),
        ({"text_config": {**tiny.TEXT, "num_hidden_layers": "2"}}, "num_hidden_layers of text_config is '2'"),
        ({"text_config": {**tiny.TEXT, "rms_norm_eps": -1.0}}, "rms_norm_eps of text_config is -1.0"),
        ({"n_action_bins": 128}, "n_action_bins is 128, but only 256"),
        ({"text_config": [1]}, "text_config must be a mapping"),
        ({"pad_to_multiple_of": 32000}, "leaves no room for 256 action tokens"),
    ],
)
def test_a_configuration_of_something_else(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        tiny.write_config(tmp_path, **changes)


def test_a_configuration_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="does not exist"):
        read_config(tmp_path)
    for text, message in (
        ("{", "is no readable JSON"),
        ("[]", "must hold a mapping"),
        ("[" * 99999, "no readable"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(PolicyError, match=message):
            read_config(tmp_path)


def test_a_thousand_hostile_configurations(tmp_path: Path) -> None:
    """Each is read or refused in a sentence, and a model can be planned for what is read."""
    random = np.random.default_rng(11)
    tiny.write_config(tmp_path)
    good = json.loads((tmp_path / "config.json").read_text())
    odd = [
        None,
        -1,
        0,
        1,
        7,
        2**70,
        1.5,
        "x",
        "llama",
        True,
        [],
        [1],
        ["x"],
        [[1]],
        {},
        {"a": 1},
        float("inf"),
    ]
    refused = 0
    for _ in range(1000):
        table = json.loads(json.dumps(good))
        for _ in range(random.integers(1, 4)):
            inner = table["text_config"] if isinstance(table["text_config"], dict) else {}
            section = inner if random.random() < 0.4 else table
            keys = [key for key in section if key != "norm_stats"] or ["x"]
            section[keys[random.integers(len(keys))]] = odd[random.integers(len(odd))]
        (tmp_path / "config.json").write_text(json.dumps(table))
        try:
            read = read_config(tmp_path, tower_sizes(tiny.TOWERS))
            LlamaConfig.from_mapping(read.text, read.source)
        except PolicyError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 200 < refused < 1000


@pytest.mark.parametrize("vlm", ["prism-dinosiglip-224px+7b", "siglip-224px+7b"])
def test_a_folder_of_the_original_training_code(tmp_path: Path, vlm: str) -> None:
    """Its configuration, statistics and .pt file give the model that they were made of."""
    dino = "dino" in vlm
    text = {key: value for key, value in tiny.TEXT.items() if key != "model_type"}
    tiny.write_tokenizer(tmp_path)
    (tmp_path / "dataset_statistics.json").write_text(json.dumps({"bridge_orig": {"action": tiny.ACTION}}))
    run = {"vla": {"base_vlm": vlm}, "image_sizes": tiny.SIZE, "text_config": text}
    (tmp_path / "config.json").write_text(json.dumps(run))
    config = read_config(tmp_path, tower_sizes(tiny.TOWERS))
    assert len(config.towers) == 1 + dino and config.conversation != dino
    assert config.text["rms_norm_eps"] == 1e-5 and "bridge_orig" in config.statistics
    made = tiny.random_model(config)
    parts: dict[str, dict[str, Any]] = {"vision_backbone": {}, "projector": {}, "llm_backbone": {}}
    layers = {"fc1": "projector.0", "fc2": "projector.2", "fc3": "projector.4"}
    for name, value in made.state_dict().items():
        part, _, rest = name.partition(".")
        if part == "vision_backbone":
            tower, _, rest = rest.partition(".")
            second = tower == "fused_featurizer"
            tower = ("siglip_featurizer" if second else "dino_featurizer") if dino else "featurizer"
            parts[part][f"{tower}.{rest.replace('scale_factor', 'gamma')}"] = value
        elif part == "projector":
            parts[part][f"{layers[rest[:3]]}{rest[3:]}"] = value
        else:
            parts["llm_backbone"][f"llm.{rest}"] = value
    (tmp_path / "checkpoints").mkdir()
    torch.save({"model": parts}, tmp_path / "checkpoints" / "step-000100-epoch-01-loss=1.0.pt")
    again = load_model(tmp_path, config, torch.device("cpu"), torch.float32)
    for name, value in again.state_dict().items():
        assert torch.equal(value, made.state_dict()[name]), name
