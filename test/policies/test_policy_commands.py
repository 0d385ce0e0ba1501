"""`vla-ros policy ...` and the options by which the other commands name a policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vla_ros.bringup.graph import MODEL_PATIENCE, GraphOptions, graph
from vla_ros.cli import app
from vla_ros.commands.policy import normalization_keys
from vla_ros.contract import load_contract
from vla_ros.errors import ConfigurationError, PolicyError
from vla_ros.policies.base import CameraNeed, PolicyRequirements
from vla_ros.policies.options import mapped_options, parsed_options
from vla_ros.policies.registry import family, make_policy, policy_names, policy_options, policy_scaling
from vla_ros.policies.synthetic import synthetic_observations
from vla_ros.robots import load_robot

runner = CliRunner()
SCRIPTED = ["--option", "factory=scripted_policies:make"]


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "process"))


def said(*arguments: str) -> tuple[int, str]:
    result = runner.invoke(app, ["policy", *arguments], env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output + result.stderr


def test_the_list_names_every_policy_and_where_it_runs() -> None:
    status, text = said("list")
    assert status == 0 and all(name in text for name in policy_names())
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if line.startswith("│")}
    assert "inference node" in rows["visual_servo"] and "own" in rows["custom"]


def test_missing_libraries_are_named_without_importing_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    from vla_ros.policies import registry

    lacking = registry.Family("nowhere", "make", "needs much", ("json", "no_such_library"))
    monkeypatch.setitem(registry._FAMILIES, "lacking", lacking)
    assert family("lacking").missing == ["no_such_library"]
    status, text = said("list")
    assert status == 0 and "missing: no_such_library" in text
    status, text = said("check", "--policy", "lacking")
    assert status == 1 and "needs no_such_library, not installed" in text
    with pytest.raises(PolicyError, match="needs a library that is not installed"):
        policy_options("lacking")


def test_info_says_what_a_policy_asks_for(tmp_path: Path) -> None:
    (tmp_path / "dataset_statistics.json").write_text(json.dumps({"kitchen": {"action": {}}, "x": 3}))
    arguments = ["info", "custom", *SCRIPTED, "--option", "scaled=tokens", "--checkpoint", str(tmp_path)]
    status, text = said(*arguments)
    assert status == 0
    for fragment in (
        "data sets in the checkpoint: kitchen",
        "delta_tcp, 4 steps in 5 answers a second",
        "cameras: primary; 1 frame",
        "tokens, normalised by 'kitchen' as bounds_q99",
        "machine: cpu",
    ):
        assert fragment in text
    status, text = said("info", "custom", *SCRIPTED, "--option", "answers=0.5")
    assert status == 1 and "does not fit: policy 'custom'" in text and "starve" in text
    status, text = said("info", "visual_servo")
    assert status == 0 and "horizon=8" in text and "physical" in text


def test_data_sets_are_read_from_either_file_and_bad_ones_are_none(tmp_path: Path) -> None:
    assert normalization_keys("") == normalization_keys("rail-berkeley/octo") == []
    (tmp_path / "config.json").write_text(json.dumps({"norm_stats": {"bridge_orig": {"action": {}}}}))
    assert normalization_keys(str(tmp_path)) == ["bridge_orig"]
    (tmp_path / "dataset_statistics.json").write_text("{")
    assert normalization_keys(str(tmp_path)) == ["bridge_orig"]
    (tmp_path / "config.json").write_text("[]")
    assert normalization_keys(str(tmp_path)) == []


def test_check_loads_and_lets_it_answer() -> None:
    status, text = said("check", "--policy", "custom", *SCRIPTED)
    assert status == 0 and "answered 4 steps (handover" in text and "fits robot 'panda', loads" in text
    status, text = said("check", "--policy", "visual_servo", "--action-space", "bridge", "--robot", "widowx")
    assert status == 0


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (["--option", "load=refuse"], ["The weights are missing."]),
        (["--option", "load=crash"], ["status 7 while it was loaded"]),
        (
            ["--option", "answers=0.5", "--option", "load=refuse"],
            ["starve between chunks", "The weights are missing."],
        ),
        (["--option", "normalization_key=cellar"], ["asks for normalisation key 'cellar'"]),
    ],
)
def test_check_says_a_sentence_for_each_problem(options: list[str], fragments: list[str]) -> None:
    status, text = said("check", "--policy", "custom", *SCRIPTED, *options)
    problems = [line for line in text.splitlines() if line.startswith("Problem: ")]
    assert status == 1 and len(problems) == len(fragments)
    assert all(fragment in problem for fragment, problem in zip(fragments, problems, strict=True))
    assert "Traceback" not in text


def test_bench_measures_every_stage(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    status, text = said("bench", "--policy", "custom", *SCRIPTED, "--count", "5", "--json", str(path))
    assert status == 0 and "answers and" in text
    figures = json.loads(path.read_text())
    assert figures["count"] == 5 and set(figures["stages"]) == {"handover", "decode", "total"}
    for stage in figures["stages"].values():
        assert 0.0 < stage["p50"] <= stage["p99"]
    assert figures["actions"] == pytest.approx(4 * figures["rate"])
    assert figures["rate"] == pytest.approx(1.0 / figures["stages"]["total"]["mean"])
    assert figures["memory"]["process"] > 10**6 and figures["policy"] == "custom"


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["info", "crystal_ball"], "'crystal_ball' is unknown"),
        (["info", "custom"], "needs the option 'factory'"),
        (["info", "custom", "--option", "factory"], "is written key=value"),
        (["info", "custom", "--option", "factory=os.system"], "package.module:function"),
        (["info", "custom", "--option", "factory=no_such_module:make"], "cannot be imported"),
        (["info", "custom", "--option", "factory=scripted_policies:no_such"], "has no 'no_such'"),
        (["info", "custom", "--option", "factory=os:getcwdb"], "was refused"),
        (["bench", "--policy", "custom", *SCRIPTED, "--option", "answers=0.5"], "starve"),
        (["bench", "--policy", "custom", *SCRIPTED, "--option", "load=fail"], "failed with RuntimeError"),
        (["check", "--robot", "r2d2"], "r2d2"),
        (["export", "visual_servo", "--out", "somewhere"], "only octo can"),
        (["export", "octo", "--out", "somewhere"], "needs a checkpoint"),
    ],
)
def test_bad_input_is_a_sentence(arguments: list[str], fragment: str) -> None:
    status, text = said(*arguments)
    assert status in (1, 2) and fragment in text and "Traceback" not in text


@pytest.mark.parametrize("text", ["factory", "=3", "a b=3", "a=[1", "1a=2"])
def test_options_are_written_key_is_value(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parsed_options([text])
    assert "\n" not in str(caught.value)


def test_options_are_values_in_yaml() -> None:
    texts = ["a=3", "b=true", "c=x:y", "d=[1, 2]", "e=", "f=a=b", "g=0.5"]
    expected: dict[str, Any] = {"a": 3, "b": True, "c": "x:y", "d": [1, 2], "e": "", "f": "a=b", "g": 0.5}
    assert parsed_options(texts) == expected
    with pytest.raises(ConfigurationError, match="'a' was given twice"):
        parsed_options(["a=1", "a=2"])
    assert mapped_options("{a: 3}", "here") == {"a": 3}
    with pytest.raises(ConfigurationError, match="here was given as"):
        mapped_options("[1]", "here")


@pytest.mark.parametrize("command", [["demo"], ["up", "panda"], ["eval"]], ids=["demo", "up", "eval"])
def test_options_of_a_policy_reach_it_from_every_command(command: list[str], tmp_path: Path) -> None:
    arguments = [*command, "--policy", "custom", "--policy-option", "factory=no_such_module:make"]
    result = runner.invoke(app, [*arguments, "--runs", str(tmp_path)])
    assert result.exit_code == 2 and "no_such_module:make" in result.output + result.stderr
    arguments = [*command, "--action-space", "droid"]
    result = runner.invoke(app, [*arguments, "--runs", str(tmp_path)])
    assert result.exit_code == 2 and "'droid'" in result.output + result.stderr


def test_the_graph_has_patience_with_models_only() -> None:
    light = {p.name: p.parameters for p in graph(GraphOptions())}
    assert "patience" not in light["lifecycle_manager"]
    options = GraphOptions(policy="custom", policy_options={"factory": "scripted_policies:make"})
    heavy = {p.name: p.parameters for p in graph(options)}
    assert heavy["lifecycle_manager"]["patience"] == MODEL_PATIENCE
    assert (
        "scripted_policies:make" in heavy["inference"]["policy_options"] == heavy["chunker"]["policy_options"]
    )


def test_a_policy_of_the_nodes_own_process_is_not_imported_to_learn_its_scaling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vla_ros.policies import registry

    def refuse(name: str) -> Any:
        raise AssertionError(name)

    monkeypatch.setattr(registry, "import_module", refuse)
    assert policy_scaling(load_contract("panda")) == (None, None)


def test_custom_policies_say_what_is_wrong_with_their_factory() -> None:
    panda = load_robot("panda")
    policy = make_policy("custom", panda, factory="scripted_policies:make", answers=3.0)
    assert policy.requirements.rate == 3.0
    with pytest.raises(PolicyError, match="made a str, but a policy has"):
        make_policy("custom", panda, factory="scripted_policies:make_nothing")


def test_made_up_observations_look_like_the_ingesters() -> None:
    contract = load_contract("panda", cameras={"primary": {}})
    needs = PolicyRequirements("delta_tcp", 4.0, 8, (CameraNeed("primary", 64, 48),))
    stream = synthetic_observations(contract.robot, contract.cameras, needs, "pick", seed=3)
    one, two = next(stream), next(stream)
    assert one.images["primary"].rgb.shape == (48, 64, 3) and set(one.images) == {"primary"}
    assert (two.stamp - one.stamp, two.sequence - one.sequence) == (250_000_000, 1)
    assert not np.array_equal(one.images["primary"].rgb, two.images["primary"].rgb)
    again = next(synthetic_observations(contract.robot, contract.cameras, needs, "pick", seed=3))
    np.testing.assert_array_equal(again.images["primary"].rgb, one.images["primary"].rgb)
