"""The one description of the graph."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from vla_ros.actions import action_space_names
from vla_ros.bringup.graph import (
    MANAGED,
    GraphOptions,
    TeleopOptions,
    contract_for,
    graph,
    replay_graph,
    run_folder,
)
from vla_ros.bringup.shm import profile_variable
from vla_ros.contract import load_contract
from vla_ros.errors import VlaRosError
from vla_ros.nodes.contracts import contract_of

pytest.importorskip("rclpy", reason="rclpy is not installed")


def names(**options: object) -> list[str]:
    return [process.name for process in graph(GraphOptions(**options))]


def test_who_takes_part() -> None:
    everyone = {*MANAGED, "supervisor", "watchdog", "lifecycle_manager"}
    assert set(names()) == everyone | {"simulator"}
    assert set(names(record="bag")) == everyone | {"simulator", "recorder"}
    assert set(names(sim="none")) == everyone
    assert set(names(sim="gazebo", robot="ur5")) == everyone


@pytest.mark.parametrize("reach", ["LOCALHOST", "SUBNET"])
def test_only_nodes_with_images_use_shared_memory(reach: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured in test_shm.py; here that the runner and a launch file tell every node the same."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", reach)
    for process in graph(GraphOptions(record="bag", teleop=TeleopOptions(with_policy=True))):
        profile = Path(process.environment[profile_variable()])
        shared = process.name in {"simulator", "recorder", "ingester", "inference", "teleop"}
        assert ("<type>SHM</type>" in profile.read_text(encoding="utf-8")) is shared, process.name
        local = reach == "LOCALHOST" and not shared
        assert ("127.0.0.1" in profile.read_text(encoding="utf-8")) is local
        told = process.environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE")
        assert told == ("SYSTEM_DEFAULT" if local else None)


@pytest.mark.parametrize("robot", ["panda", "fr3", "widowx", "ur5", "ur5e"])
def test_every_parameter_is_one_that_its_node_declares(robot: str, tmp_path: Path) -> None:
    options = GraphOptions(robot=robot, record=str(tmp_path / "bag"), instruction="pick up the red block")
    contract = load_contract("widowx", simulated=True, action_space="bridge")
    for process in [*graph(options), *replay_graph(options, contract, [tmp_path], 5.0)]:
        module = importlib.import_module(process.module)
        node = next(
            value for value in vars(module).values()
            if isinstance(value, type) and value.__module__ == process.module and hasattr(value, "PARAMETERS")
        )  # fmt: skip
        declared = {row.name: row for row in node.PARAMETERS}
        for name, value in process.parameters.items():
            if name == "use_sim_time":
                continue
            assert type(value) is type(declared[name].default), f"{process.name}: {name}"


@pytest.mark.parametrize(
    "options",
    [
        GraphOptions(robot="widowx", record="bag", teleop=TeleopOptions(task="pick")),
        GraphOptions(robot="ur5e", record="bag", action_space="bridge", rate=4.0),
    ],
)
def test_a_bag_names_the_contract_that_its_run_had(options: GraphOptions) -> None:
    """Also where no file of the run holds it, as under a launch file."""
    recorder = next(p for p in graph(options) if p.name == "recorder")
    node = SimpleNamespace(value=lambda name: recorder.parameters[name])
    assert contract_of(node).to_yaml() == contract_for(options).to_yaml()
    assert contract_of(node).policy == ("none" if options.teleop else "visual_servo")


def test_the_nodes_of_a_run_agree() -> None:
    processes = {
        p.name: p for p in graph(GraphOptions(robot="ur5", rate=10.0, sim="none", use_sim_time=True))
    }
    for name in MANAGED:
        told = processes[name].parameters
        assert (told["contract"], told["policy"], told["rate"]) == ("ur5", "visual_servo", 10.0)
        assert told["simulated"] is False and told["use_sim_time"] is True
    assert processes["supervisor"].parameters["simulator"] is False


@pytest.mark.parametrize(
    "options",
    [
        {"robot": "r2d2"},
        {"policy": "crystal_ball"},
        {"sim": "holodeck"},
        {"action_space": "sideways"},
        {"robot": "missing.yaml"},
        {"rate": 1e6},
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(options: dict[str, object]) -> None:
    given = str(next(iter(options.values())))
    with pytest.raises(VlaRosError) as refused:
        graph(GraphOptions(**options))
    assert given in str(refused.value) or f"{float(given):g}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_parameters_of_an_experiment_reach_their_node() -> None:
    changed = GraphOptions(parameters={"inference": {"policy_rate": 2.0}})
    processes = {p.name: p for p in graph(changed)}
    assert processes["inference"].parameters["policy_rate"] == 2.0
    assert "policy_rate" not in processes["chunker"].parameters


def test_run_folders_never_collide(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path / "runs", "now") for _ in range(3)]
    assert len(set(folders)) == 3 and all(folder.is_dir() for folder in folders)


@pytest.mark.parametrize("space", action_space_names())
def test_a_graph_with_a_person_in_it(space: str) -> None:
    alone = graph(GraphOptions(action_space=space, record="bags", teleop=TeleopOptions(task="pick")))
    processes = {process.name: process.parameters for process in alone}
    assert "inference" not in processes and "inference" not in processes["lifecycle_manager"]["nodes"]
    assert processes["recorder"]["per_episode"] is True
    assert processes["teleop"]["action_space"] == space and processes["teleop"]["with_policy"] is False
    both = graph(GraphOptions(teleop=TeleopOptions(with_policy=True)))
    assert {"inference", "teleop"} <= {process.name for process in both}
    declared = {row.name: row for row in importlib.import_module("vla_ros.nodes.teleop").Teleop.PARAMETERS}
    for name, value in processes["teleop"].items():
        assert name == "use_sim_time" or type(value) is type(declared[name].default), name
