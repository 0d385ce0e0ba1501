"""Adapters, original files, folders and statistics: as their writers wrote them, or refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")

from vla_ros.errors import PolicyError  # noqa: E402
from vla_ros.policies.checkpoints import source  # noqa: E402
from vla_ros.policies.checkpoints.lora import CONFIG, WEIGHTS, merge_adapter  # noqa: E402
from vla_ros.policies.checkpoints.pickled import read_state  # noqa: E402
from vla_ros.policies.checkpoints.prismatic import is_prismatic, read_prismatic  # noqa: E402
from vla_ros.policies.checkpoints.source import checkpoint_folder  # noqa: E402
from vla_ros.policies.checkpoints.statistics import select  # noqa: E402


class Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 6, 2, 2)
        self.inner = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 4))
        self.lm_head = torch.nn.Linear(4, 7, bias=False)

    def forward(self, x: Any) -> Any:
        return self.lm_head(self.inner(self.patches(x).flatten(2).transpose(1, 2)))


def adapted(folder: Path, **options: Any) -> tuple[Any, Any]:
    """A module before it is adapted, and what peft makes of it merged; the adapter lies in `folder`."""
    peft = pytest.importorskip("peft", reason="the extra 'train' is not installed")
    import copy

    torch.manual_seed(3)
    module = Tiny().requires_grad_(False)
    kept = copy.deepcopy(module)
    config = peft.LoraConfig(
        r=4, target_modules=["patches", "inner.0", "inner.1", "lm_head"], init_lora_weights="gaussian",
        **{"lora_alpha": 2, **options},
    )  # fmt: skip
    wrapped = peft.get_peft_model(module, config)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    wrapped.save_pretrained(folder)
    return kept, wrapped.merge_and_unload()


@pytest.mark.parametrize(
    "options",
    [{}, {"use_rslora": True}, {"rank_pattern": {"inner.0": 2}, "alpha_pattern": {"lm_head": 9, "0": 3}}],
)
def test_an_adapter_is_merged_as_peft_merges_it(tmp_path: Path, options: dict[str, Any]) -> None:
    ours, theirs = adapted(tmp_path, **options)
    before = ours.lm_head.weight.clone()
    assert merge_adapter(ours, tmp_path) == 4
    assert not torch.equal(before, ours.lm_head.weight)
    for (name, one), two in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (one - two).abs().max() <= 1e-6, name


def test_what_is_for_unused_parts_is_left_out(tmp_path: Path) -> None:
    ours, theirs = adapted(tmp_path)
    kept = ours.patches.weight.clone()
    assert merge_adapter(ours, tmp_path, ignore=lambda name: name == "patches.weight") == 3
    assert torch.equal(ours.patches.weight, kept) and not torch.equal(theirs.patches.weight, kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora is set, which is not supported"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
        ({"bias": "all"}, "bias is 'all', but only adapters without"),
        ({"peft_type": "LOHA"}, "describes no LoRA adapter"),
        ({"r": 0}, "r is 0 and lora_alpha 2, but must be numbers above 0"),
        ({"r": "4"}, "r is '4'"),
        ({"alpha_pattern": {"inner": -1}}, "must map names to numbers above 0"),
    ],
)
def test_other_adapters_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    ours, _ = adapted(tmp_path)
    table = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**table, **change}))
    with pytest.raises(PolicyError, match=message):
        merge_adapter(ours, tmp_path)


def test_an_adapter_of_another_model_changes_nothing(tmp_path: Path) -> None:
    ours, _ = adapted(tmp_path)
    ours.lm_head = torch.nn.Linear(4, 8, bias=False)
    kept = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(PolicyError, match=r"do not fit a weight of \(8, 4\)"):
        merge_adapter(ours, tmp_path)
    del ours.lm_head
    with pytest.raises(PolicyError, match="adapts 'lm_head', which the model does not have"):
        merge_adapter(ours, tmp_path)
    assert all(torch.equal(value, kept[name]) for name, value in ours.state_dict().items())
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(PolicyError, match=f"is no adapter: {WEIGHTS} is missing"):
        merge_adapter(ours, tmp_path)


def original() -> dict[str, Any]:
    torch.manual_seed(5)
    return {
        "model": {
            "vision_backbone": {
                "dino_featurizer.blocks.0.ls1.gamma": torch.randn(2),
                "dino_featurizer.pos_embed": torch.randn(1, 4, 2),
                "siglip_featurizer.norm.weight": torch.randn(2),
            },
            "projector": {f"projector.{index}.weight": torch.randn(2, 2) for index in (0, 2, 4)},
            "llm_backbone": {
                "llm.model.norm.weight": torch.randn(2),
                "llm.lm_head.weight": torch.randn(3, 2),
            },
        }
    }


def test_an_original_file_has_the_hubs_names(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    torch.save({"model": {}}, folder / "step-000900-epoch-01-loss=0.1.pt")
    content = original()
    torch.save(content, folder / "step-010000-epoch-02-loss=0.2.pt")
    assert is_prismatic(tmp_path)
    found = read_prismatic(tmp_path)
    parts = content["model"]
    assert {name: value.tolist() for name, value in found.items()} == {
        "vision_backbone.featurizer.blocks.0.ls1.scale_factor": parts["vision_backbone"][
            "dino_featurizer.blocks.0.ls1.gamma"
        ].tolist(),
        "vision_backbone.featurizer.pos_embed": parts["vision_backbone"][
            "dino_featurizer.pos_embed"
        ].tolist(),
        "vision_backbone.fused_featurizer.norm.weight": parts["vision_backbone"][
            "siglip_featurizer.norm.weight"
        ].tolist(),
        **{
            f"projector.fc{number}.weight": parts["projector"][f"projector.{index}.weight"].tolist()
            for number, index in ((1, 0), (2, 2), (3, 4))
        },
        "language_model.model.norm.weight": parts["llm_backbone"]["llm.model.norm.weight"].tolist(),
        "language_model.lm_head.weight": parts["llm_backbone"]["llm.lm_head.weight"].tolist(),
    }
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert not is_prismatic(tmp_path), "safetensors come first"


class Runs:
    """Would write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    torch.save({"model": Runs(tmp_path / "proof")}, tmp_path / "a.pt")
    with pytest.raises(PolicyError, match="is refused: it holds more than tensors") as error:
        read_prismatic(tmp_path)
    assert "\n" not in str(error.value) and not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda content: content["model"].pop("projector"),
            "must hold 'model' with vision_backbone, projector",
        ),
        (
            lambda content: content["model"]["projector"].update({"projector.3.weight": torch.ones(1)}),
            "not known",
        ),
        (
            lambda content: content["model"]["llm_backbone"].update({"llm.x": 3}),
            "'llm.x', which is not known",
        ),
        (lambda content: content["model"].update(llm_backbone=[1]), "'llm_backbone' must be a map"),
    ],
)
def test_another_original_file_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    content = original()
    change(content)
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(PolicyError, match=message):
        read_prismatic(tmp_path)


def test_a_damaged_file_of_torch_is_refused(tmp_path: Path) -> None:
    import numpy as np

    torch.save({"module.x": torch.arange(64.0), "y": torch.ones(3)}, tmp_path / "good.pt")
    good = (tmp_path / "good.pt").read_bytes()
    assert set(read_state(tmp_path / "good.pt")) == {"x", "y"}
    random = np.random.default_rng(2)
    refused = 0
    for _ in range(200):
        raw = bytearray(good[: random.integers(0, len(good))])
        (tmp_path / "bad.pt").write_bytes(raw)
        with pytest.raises(PolicyError) as error:
            read_state(tmp_path / "bad.pt")
        refused += "\n" not in str(error.value)
    assert refused == 200
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(PolicyError, match="must hold a map, not a list"):
        read_state(tmp_path / "list.pt")
    torch.save({"x": 1}, tmp_path / "number.pt")
    with pytest.raises(PolicyError, match="'x' is no tensor"):
        read_state(tmp_path / "number.pt")
    with pytest.raises(PolicyError, match="does not exist"):
        read_state(tmp_path / "none.pt")


def test_a_folder_or_a_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkpoint_folder(str(tmp_path), ("*",)) == tmp_path
    hub = pytest.importorskip("huggingface_hub")
    asked: list[Any] = []

    def give(name: str, **options: Any) -> str:
        asked.append((name, options["revision"], options["allow_patterns"]))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", give)
    assert checkpoint_folder("openvla/openvla-7b", ("*.json",), "v2") == tmp_path
    assert asked == [("openvla/openvla-7b", "v2", ["*.json"])]

    def fail(name: str, **options: Any) -> str:
        raise OSError("no way\nthere.")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(PolicyError, match=r"the hub did not give it: no way there\.$"):
        checkpoint_folder("openvla/openvla-7b", ("*.json",))


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for given, revision, message in (
        ("", "", "No checkpoint was named"),
        (str(tmp_path / "file"), "", "is a file, but must be a folder or a hub id"),
        (str(tmp_path / "none"), "", "neither a folder that exists nor a hub id"),
        ("a/b/c", "", "neither a folder that exists nor a hub id"),
        (str(tmp_path), "main", "is a folder and has none"),
    ):
        with pytest.raises(PolicyError, match=message):
            checkpoint_folder(given, ("*",), revision)
    assert source.__doc__


def test_the_data_set_is_chosen_or_listed() -> None:
    one, two = {"a": {"action": 1}}, {"a": {"action": 1}, "b": {"action": 2}}
    assert select(one, "", "here") == ("a", {"action": 1})
    assert select(two, "b", "here") == ("b", {"action": 2})
    for table, key, message in (
        (two, "", "several data sets and the option 'normalization_key' chooses none: a, b"),
        (two, "c", "here has no data set 'c', there is a, b"),
        ({}, "", "holds no statistics of any data set"),
        ({"a": 3}, "a", "The entry 'a' of here is no map"),
    ):
        with pytest.raises(PolicyError, match=message):
            select(table, key, "here")  # type: ignore[arg-type]
