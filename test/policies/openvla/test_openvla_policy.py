"""OpenVLA as a policy: what it declares, what it answers, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("tokenizers", reason="the extra 'torch' is not installed")

import openvla_checkpoint as tiny  # noqa: E402

from vla_ros.actions import decode, get_action_space  # noqa: E402
from vla_ros.errors import ActionError, InstructionError, ObservationError, PolicyError  # noqa: E402
from vla_ros.policies.openvla import make_openvla  # noqa: E402
from vla_ros.policies.openvla.model import OpenVlaModel  # noqa: E402
from vla_ros.policies.openvla.preprocess import center_crop, pixels  # noqa: E402
from vla_ros.policies.openvla.prompt import load_tokenizer, prompt, with_space  # noqa: E402
from vla_ros.policies.registry import make_policy  # noqa: E402
from vla_ros.robots import load_robot  # noqa: E402

PANDA = load_robot("panda")
OPTIONS: dict[str, Any] = {"towers": tiny.TOWERS, "device": "cpu"}
CAMERA = next(iter(PANDA.cameras))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OpenVlaModel]:
    folder = tmp_path_factory.mktemp("openvla")
    return folder, tiny.write_checkpoint(folder)


def expected(folder: Path, model: OpenVlaModel, frame: np.ndarray, instruction: str) -> list[int]:
    """Greedy answers of the plain model, without any cache."""
    ids = with_space(load_tokenizer(folder)(prompt(instruction))).tolist()
    images = torch.from_numpy(pixels(frame, model.config)[None])
    with torch.no_grad():
        for _ in range(7):
            ids.append(int(model.logits(images, torch.tensor([ids]))[0, -1].argmax()))
    return ids[-7:]


def test_it_declares_all_and_imports_no_torch(checkpoint: tuple[Path, OpenVlaModel]) -> None:
    needs = make_openvla(PANDA, checkpoint=str(checkpoint[0]), **OPTIONS).requirements
    assert (needs.action_space, needs.horizon, needs.rate, needs.action_rate) == ("bridge", 1, 5.0, 5.0)
    assert needs.normalization is not None and needs.normalization.key == "bridge_orig"
    assert needs.codec is not None and needs.codec.vocabulary == 32000
    assert [camera.name for camera in needs.cameras] == [CAMERA] and needs.machine.memory > 2**20
    code = (
        "import sys\nfrom vla_ros.policies.registry import make_policy\n"
        "from vla_ros.robots import load_robot\n"
        f"make_policy('openvla', load_robot('panda'), checkpoint={str(checkpoint[0])!r}, "
        f"towers={tiny.TOWERS!r}).requirements\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_answers_what_the_plain_model_answers(checkpoint: tuple[Path, OpenVlaModel]) -> None:
    folder, model = checkpoint
    policy = make_policy("openvla", PANDA, checkpoint=str(folder), **OPTIONS)
    with pytest.raises(PolicyError, match="not loaded"):
        policy.reset("stop")
    policy.load()
    seen = tiny.observation(PANDA, 3)
    with pytest.raises(PolicyError, match="no instruction"):
        policy.infer(seen)
    for instruction in ("Pick up the red block", "stop"):
        policy.reset(instruction)
        output = policy.infer(seen)
        assert output.tokens is not None and output.values is None
        assert output.tokens[0].tolist() == expected(folder, model, seen.images[CAMERA].rgb, instruction)
        assert (output.stamp, output.sequence, output.normalization_key) == (1003, 3, "bridge_orig")
        assert {"upload", "vision", "prefill", "decode"} <= set(output.latency)
    # random weights answer what is no action: that is refused, not moved
    needs = policy.requirements
    with pytest.raises(ActionError, match="is not an action token"):
        decode(output, get_action_space("bridge"), PANDA.gripper, needs.normalization, needs.codec)
    with pytest.raises(InstructionError, match="empty"):
        policy.reset(" ")
    with pytest.raises(InstructionError, match="too long"):
        policy.reset("x" * 3000)
    with pytest.raises(ObservationError, match=f"needs camera '{CAMERA}'"):
        policy.infer(replace(seen, images={}))


def test_constrained_answers_are_actions(checkpoint: tuple[Path, OpenVlaModel]) -> None:
    folder, model = checkpoint
    policy = make_openvla(PANDA, checkpoint=str(folder), constrained=True, **OPTIONS)
    policy.load()
    policy.reset("push the plate")
    needs = policy.requirements
    assert needs.codec is not None and needs.normalization is not None
    seen = tiny.observation(PANDA, 1)
    output = policy.infer(seen)
    chunk = decode(output, get_action_space("bridge"), PANDA.gripper, needs.normalization, needs.codec)
    assert chunk.horizon == 1 and chunk.translation is not None
    ids = with_space(load_tokenizer(folder)(prompt("push the plate"))).tolist()
    images = torch.from_numpy(pixels(seen.images[CAMERA].rgb, model.config)[None])
    for token in output.tokens[0]:  # type: ignore[index]
        with torch.no_grad():
            scores = model.logits(images, torch.tensor([ids]))[0, -1]
        assert token == 31744 + int(scores[31744:32000].argmax())
        ids.append(int(token))


def test_several_robots_are_answered_as_each_alone(checkpoint: tuple[Path, OpenVlaModel]) -> None:
    policy = make_openvla(PANDA, checkpoint=str(checkpoint[0]), **OPTIONS)
    policy.load()
    words = ("stop", "pick up the blue cup", "go home", "put it down now")
    seen = [tiny.observation(PANDA, number, text) for number, text in enumerate(words)]
    together = policy.infer_batch(seen)
    for one, output in zip(seen, together, strict=True):
        policy.reset(one.instruction)
        alone = policy.infer(one)
        assert np.array_equal(alone.tokens, output.tokens) and alone.sequence == output.sequence
    assert len({tuple(output.tokens[0]) for output in together if output.tokens is not None}) > 1


def test_the_middle_of_the_frame(checkpoint: tuple[Path, OpenVlaModel]) -> None:
    """With `crop`, a frame is answered as its middle is without."""
    seen = tiny.observation(PANDA, 5, size=(tiny.SIZE, tiny.SIZE))
    frame = seen.images[CAMERA].rgb
    middle = replace(seen.images[CAMERA], rgb=center_crop(frame, tiny.SIZE))
    answers = []
    for crop, image in ((True, seen.images[CAMERA]), (False, middle), (False, seen.images[CAMERA])):
        policy = make_openvla(PANDA, checkpoint=str(checkpoint[0]), crop=crop, **OPTIONS)
        policy.load()
        policy.reset("stop")
        output = policy.infer(replace(seen, images={CAMERA: image}))
        assert output.tokens is not None
        answers.append(output.tokens[0].tolist())
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_weights_in_few_bits_answer(checkpoint: tuple[Path, OpenVlaModel], precision: str) -> None:
    policy = make_openvla(PANDA, checkpoint=str(checkpoint[0]), precision=precision, **OPTIONS)
    policy.load()
    policy.reset("stop")
    output = policy.infer(tiny.observation(PANDA))
    assert output.tokens is not None and output.tokens.shape == (1, 7)


def test_an_adapter_changes_the_answer(checkpoint: tuple[Path, OpenVlaModel], tmp_path: Path) -> None:
    """Its statistics come with it."""
    from safetensors.torch import save_file

    torch.manual_seed(1)
    name = "base_model.model.language_model.lm_head.lora_{}.weight"
    unused = "base_model.model.vision_backbone.fused_featurizer.attn_pool.q.lora_{}.weight"
    save_file(
        {
            name.format("A"): torch.randn(2, 32), name.format("B"): torch.randn(32064, 2),
            unused.format("A"): torch.randn(2, 24), unused.format("B"): torch.randn(24, 2),
        },
        tmp_path / "adapter_model.safetensors",
    )  # fmt: skip
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}))
    (tmp_path / "dataset_statistics.json").write_text(json.dumps({"kitchen": {"action": tiny.ACTION}}))
    tokens = []
    for adapter in ("", str(tmp_path)):
        policy = make_openvla(PANDA, checkpoint=str(checkpoint[0]), adapter=adapter, **OPTIONS)
        policy.load()
        policy.reset("stop")
        output = policy.infer(tiny.observation(PANDA))
        assert output.tokens is not None
        tokens.append(output.tokens)
    assert output.normalization_key == "kitchen" and not np.array_equal(*tokens)


TWO = {"a": {"action": tiny.ACTION}, "b": {"action": tiny.ACTION}}


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"checkpoint": ""}, "needs the option 'checkpoint'"),
        ({}, {"checkpoint": "/nowhere at all"}, "neither a folder that exists nor a hub id"),
        ({}, {"device": "tpu"}, "runs on auto, cpu or cuda, but device is 'tpu'"),
        ({}, {"precision": "fp4"}, "knows the precisions auto, fp32, .* but not 'fp4'"),
        ({}, {"normalization_key": "kitchen"}, "has no data set 'kitchen', there is bridge_orig"),
        ({"statistics": TWO}, {}, "several data sets and the option 'normalization_key' chooses none: a, b"),
        ({"norm_stats": {}}, {}, "holds no statistics of any data set"),
        ({"norm_stats": [1]}, {}, "must be a mapping"),
        ({"statistics": {"a": {"actions": 1}}}, {}, "have no section 'action'"),
        ({"statistics": {"a": {"action": {"q01": [0.0], "q99": "x"}}}}, {}, "are malformed"),
        (
            {"statistics": {"a": {"action": {"q01": [0.0], "q99": [1.0]}}}},
            {},
            "have 1 dimensions, but action",
        ),
        ({}, {"camera": "roof"}, "shown camera 'roof', but robot 'panda' has"),
        ({}, {"towers": {"vit": [1, 2, 3]}}, "'towers' must map"),
        ({"statistics": {"a": {"action": tiny.ACTION}}}, {"action_space": "polar"}, "'polar' is unknown"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_loaded(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    tiny.write_config(tmp_path, **changes)
    with pytest.raises(PolicyError, match=message) as error:
        make_openvla(PANDA, **{"checkpoint": str(tmp_path), **OPTIONS, **options})
    assert "\n" not in str(error.value)


def test_a_broken_checkpoint_is_said_when_it_is_loaded(
    checkpoint: tuple[Path, OpenVlaModel], tmp_path: Path
) -> None:
    def policy(**options: Any) -> Any:
        return make_openvla(PANDA, checkpoint=str(tmp_path), **{**OPTIONS, **options})

    def refused(message: str, **options: Any) -> None:
        with pytest.raises(PolicyError, match=message) as error:
            policy(**options).load()
        assert "\n" not in str(error.value)

    tiny.write_config(tmp_path)
    refused("has no tokenizer")
    tiny.write_tokenizer(tmp_path)
    refused("has no weights")
    for file in checkpoint[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    shard = tmp_path / "model-00002-of-00002.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    refused("cut off or tampered")
    shard.unlink()
    refused("which is missing")
    shard.write_bytes(whole)
    tiny.write_config(tmp_path, text_config={**tiny.TEXT, "intermediate_size": 64})
    refused(r"has shape \(\d+, \d+\), but \(\d+, \d+\) is needed")
    tiny.write_config(tmp_path, text_config={**tiny.TEXT, "num_hidden_layers": 3})
    refused("lacks tensors: .* and 6 more")
    tiny.write_config(tmp_path, text_config={**tiny.TEXT, "num_hidden_layers": 1})
    refused("has too many tensors: ")
    tiny.write_config(tmp_path, text_config={**tiny.TEXT, "model_type": "phi"})
    refused("'phi', known are llama and mistral")
    tiny.write_config(tmp_path)
    refused("'bf16' needs a GPU", precision="bf16")
    if not torch.cuda.is_available():
        refused("finds no GPU here", device="cuda")
    refused("int4 needs rows of a multiple of", precision="int4")
