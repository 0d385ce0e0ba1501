"""A policy's answers beside what was recorded: every figure against one reckoned by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_loop_policy import Changed
from typer.testing import CliRunner

from vla_ros.actions import get_action_space, rotations
from vla_ros.cli import app
from vla_ros.contract import Contract, load_contract
from vla_ros.data.dataset import DatasetInfo
from vla_ros.data.episode import Episode
from vla_ros.evaluation.open_loop import OpenLoop, errors, grip, horizon_errors, open_loop
from vla_ros.evaluation.open_loop_result import figures_of
from vla_ros.evaluation.recorded_observation import Observer
from vla_ros.lockstep.demonstrate import Demonstrator, Order
from vla_ros.types import ActionKind

HERE = Path(__file__).parent
BRIDGE = HERE.parents[1] / "shared" / "data" / "bridge_v2_sample"
SMALL = "robot: widowx\ncameras:\n  primary: {width: 64, height: 48, rate: 5.0}\n"


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open_loop")
    contract = folder / "small.yaml"
    contract.write_text(SMALL)
    demonstrator = Demonstrator(Order(str(contract), ("pick",), 4), folder / "bags")
    for number in (1, 4):
        assert demonstrator.make(number).success
    demonstrator.close()
    return folder / "bags"


def asked(
    actions: np.ndarray, tmp_path: Path, space: str = "delta_tcp", every: int = 1, **options: Any
) -> OpenLoop:
    """One made-up episode of a WidowX, answered by `Changed`."""
    contract: Contract = load_contract("widowx", action_space=space)
    robot, steps, rate = contract.robot, len(actions), contract.action_space.rate
    file = tmp_path / "actions.npy"
    np.save(file, actions)
    names = (*robot.joint_names, "gripper_width")
    states = np.tile(np.append(robot.home, robot.gripper.max_width), (steps, 1))
    flags = np.zeros(steps, bool)
    episode = Episode(
        "made up", actions, states, flags, flags, flags, ("pick",) * steps, {}, rate=rate,
        action_space=space, state_names=names,
    )  # fmt: skip
    info = DatasetInfo(tmp_path, "bags", "made up", 1, episode.rate, robot="widowx", state_names=names)
    policy = Changed(str(file), space, episode.rate, **options)
    observer = Observer(contract, policy.requirements, info, {})
    return open_loop(episode, 0, contract, policy, observer, every)


def deltas(steps: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-0.02, 0.02, (steps, 7))
    actions[:, 6] = np.repeat([1.0, 0.0, 1.0], [steps // 3, steps // 3, steps - 2 * (steps // 3)])
    return actions


def test_the_recorded_answers_have_no_error(tmp_path: Path) -> None:
    one = asked(deltas(30), tmp_path, horizon=4)
    figures = figures_of([one])
    assert figures["answers"] == 30 and figures["gripper"] == {
        "agreement": 1.0, "changes": 2, "found": 2, "late_steps": 0.0,
    }  # fmt: skip
    assert all(
        row["worst"] == 0.0 and row["correlation"] == pytest.approx(1.0) for row in figures["dimensions"]
    )
    assert all(v == 0.0 for name in ("translation", "rotation", "drift") for v in figures["horizon"][name])


def test_a_known_error_is_found_to_the_last_digit(tmp_path: Path) -> None:
    one = asked(deltas(20), tmp_path, horizon=3, offset=0.003)
    figures = figures_of([one])
    row = figures["dimensions"][0]
    assert row["bias"] == pytest.approx(0.003) and row["rms"] == pytest.approx(0.003)
    assert row["correlation"] == pytest.approx(1.0) and figures["dimensions"][1]["worst"] == 0.0
    assert figures["horizon"]["translation"] == pytest.approx([0.003, 0.006, 0.009])
    # deltas add up: 3, 3 + 6, 3 + 6 + 9 mm
    assert figures["horizon"]["drift"] == pytest.approx([0.003, 0.009, 0.018])


def test_a_late_gripper_is_told_in_steps(tmp_path: Path) -> None:
    figures = figures_of([asked(deltas(30), tmp_path, late=2)])
    assert figures["gripper"]["late_steps"] == 2.0 and figures["gripper"]["found"] == 2
    assert figures["gripper"]["agreement"] == pytest.approx(1.0 - 4 / 30)


def test_the_baselines_are_those_that_they_say(tmp_path: Path) -> None:
    actions = deltas(12)
    figures = figures_of([asked(actions, tmp_path)])
    moved = actions[:, 0]
    assert figures["dimensions"][0]["held_rms"] == pytest.approx(np.sqrt(np.mean(moved**2)))
    apart = np.diff(moved, prepend=moved[0])
    assert figures["dimensions"][0]["repeated_rms"] == pytest.approx(np.sqrt(np.mean(apart**2)))


def test_absolute_poses_near_a_half_turn_are_compared_by_what_lies_between(tmp_path: Path) -> None:
    space = get_action_space("absolute_tcp")
    actions = np.zeros((10, 7))
    actions[:, :3] = np.linspace([0.2, 0.0, 0.1], [0.3, 0.0, 0.1], 10)
    # pi and -pi are the same turn: no error may come of the jump
    actions[:, 3] = np.where(np.arange(10) % 2, np.pi - 1e-4, -np.pi + 1e-4)
    actions[:, 6] = 1.0
    assert space.kind is ActionKind.CARTESIAN_ABSOLUTE
    figures = figures_of([asked(actions, tmp_path, "absolute_tcp")])
    assert np.ptp(np.concatenate([asked(actions, tmp_path, "absolute_tcp").recorded[:, 3]])) < 1e-3
    assert "drift" not in figures["horizon"] and figures["groups"]["rotation"]["rms"] < 1e-12


def test_joints_are_compared_as_joints(tmp_path: Path) -> None:
    actions = np.linspace(np.zeros(7), np.full(7, 0.3), 10)
    one = asked(actions, tmp_path, "joint_position", offset=0.01)
    figures = figures_of([one])
    assert one.names[0] == "waist" and figures["groups"]["joints"]["rms"] == pytest.approx(0.01)


def test_relative_grippers_are_told_what_was_so_before(tmp_path: Path) -> None:
    actions = np.zeros((12, 7))
    actions[4, 6], actions[9, 6] = 1.0, -1.0  # close, open; elsewhere as it was
    figures = figures_of([asked(actions, tmp_path, "fractal")])
    assert figures["gripper"] == {"agreement": 1.0, "changes": 2, "found": 2, "late_steps": 0.0}
    assert figures["dimensions"][6]["worst"] == 0.0


def test_an_answer_that_is_no_number_is_left_out_and_said(tmp_path: Path) -> None:
    one = asked(deltas(10), tmp_path, wrong=3)
    assert figures_of([one])["answers"] == 9 and len(one.refused) == 1 and "step 3" in one.refused[0]


def test_only_some_steps_are_asked(tmp_path: Path) -> None:
    figures = figures_of([asked(deltas(30), tmp_path, every=7)])
    assert figures["answers"] == 5 and figures["dimensions"][0]["worst"] == 0.0


def test_two_episodes_are_the_mean_of_their_steps_and_never_mixed(tmp_path: Path) -> None:
    one, other = (
        asked(deltas(10, 1), tmp_path, horizon=3),
        asked(deltas(20, 2), tmp_path, horizon=3, offset=0.003),
    )
    figures = figures_of([one, other])
    assert figures["steps"] == 30
    assert figures["dimensions"][0]["mean_absolute"] == pytest.approx(0.002)
    squares = [10, 9, 8], [20, 19, 18]  # steps that have another so far ahead
    for ahead in range(3):
        a, b = squares[0][ahead], squares[1][ahead]
        wrong = 0.003 * (ahead + 1)
        assert figures["horizon"]["translation"][ahead] == pytest.approx(wrong * np.sqrt(b / (a + b)))


@given(st.integers(2, 40), st.integers(0, 10**6))
def test_errors_are_those_of_numpy(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    said, done = rng.normal(size=(2, count, 3))
    found = errors(said, done)
    apart = said - done
    assert np.allclose(found.mean_absolute, np.abs(apart).mean(0)) and np.allclose(found.bias, apart.mean(0))
    assert (found.mean_absolute <= found.rms + 1e-12).all() and (found.rms <= found.worst + 1e-12).all()
    assert (np.abs(found.correlation) <= 1.0 + 1e-9).all()


@given(st.lists(st.booleans(), min_size=2, max_size=40), st.integers(0, 10**6))
def test_agreement_is_a_share_and_whole_for_the_same(opened: list[bool], seed: int) -> None:
    widths = np.array(opened, float)
    same = grip(widths, widths, 0.5)
    assert same.agreement == 1.0 and same.found == same.changes
    other = np.random.default_rng(seed).integers(0, 2, len(opened)).astype(float)
    found = grip(other, widths, 0.5)
    assert found.agreement == pytest.approx(np.mean(other == widths)) and found.found <= found.changes


def test_rotation_errors_are_in_the_base_frame(tmp_path: Path) -> None:
    actions = np.zeros((5, 7))
    actions[:, 3:6] = [0.1, -0.2, 0.15]
    one = asked(actions, tmp_path)
    expected = rotations.log(rotations.from_euler_xyz(np.array([0.1, -0.2, 0.15])))
    assert np.allclose(one.recorded[0, 3:6], expected)
    assert horizon_errors(one)["rotation"][0] == 0.0


def command(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["replay", *arguments])
    return done.exit_code, done.output


def options(file: Path, **more: object) -> list[str]:
    given = {"factory": "open_loop_policy:make", "actions": str(file), **more}
    return [part for key, value in given.items() for part in ("--policy-option", f"{key}={value}")]


def test_the_command_on_bags(bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, text = command(str(bags), "--policy", "visual_servo", "--every", "3", "--json", "r.json")
    assert status == 0, text
    result = json.loads(Path("r.json").read_text())
    assert result["episodes"] == 2 and result["answers"] > 20 and len(result["by_episode"]) == 2
    pages = sorted(path.name for path in Path("runs").glob("*-open-loop/*.html"))
    assert pages == ["episode_000000.html", "episode_000001.html", "index.html"]
    page = next(Path("runs").glob("*-open-loop/episode_000000.html")).read_text()
    assert "data:image/jpeg" in page and "<svg" in page and "By dimension" in page


def test_a_model_in_a_process_of_its_own(bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vla_ros.data.open import open_dataset

    np.save(tmp_path / "a.npy", open_dataset(bags).episode(0).actions)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    arguments = [str(bags), "--policy", "custom", *options(tmp_path / "a.npy", camera="primary", horizon=4)]
    arguments += ["--episodes", "1", "--json", str(tmp_path / "r.json"), "--runs", str(tmp_path)]
    status, text = command(*arguments)
    assert status == 0, text
    result = json.loads((tmp_path / "r.json").read_text())
    assert all(row["worst"] == 0.0 for row in result["dimensions"]) and len(result["horizon"]["drift"]) == 4


@pytest.mark.skipif(not BRIDGE.is_dir(), reason="the sample of BridgeData V2 is not beside the checkout")
def test_the_command_on_bridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vla_ros.data.open import open_dataset

    np.save(tmp_path / "a.npy", open_dataset(BRIDGE).episode(0).actions)
    contract = tmp_path / "bridge.yaml"
    contract.write_text("robot: widowx\naction_space: bridge\n")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    arguments = [str(BRIDGE), "--policy", "custom", *options(tmp_path / "a.npy", camera="primary")]
    arguments += ["--episodes", "1", "--json", str(tmp_path / "r.json"), "--runs", str(tmp_path)]
    status, text = command(*arguments)
    assert status == 2 and "carries no contract" in text
    status, text = command(*arguments, "--contract", str(contract))
    assert status == 2 and "--camera primary=NAME" in text and "image_0" in text
    arguments += ["--contract", str(contract), "--camera", "primary=image_0"]
    status, text = command(*arguments)
    assert status == 0 and "home posture" in text, text
    assert all(row["worst"] == 0.0 for row in json.loads((tmp_path / "r.json").read_text())["dimensions"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--policy", "nobody"], "is unknown"),
        (["--policy", "visual_servo", "--camera", "primary"], "must be like primary=image_0"),
        (["--policy", "visual_servo", "--camera", "primary=side"], "which has primary"),
        (["--policy", "visual_servo", "--contract", "nowhere.yaml"], "does not exist"),
        (["--policy", "openvla"], "checkpoint"),
    ],
)
def test_mistakes_are_a_sentence(bags: Path, arguments: list[str], sentence: str) -> None:
    status, text = command(str(bags), *arguments)
    assert status == 2 and sentence in text and "Traceback" not in text


def test_another_action_space_is_refused(bags: Path, tmp_path: Path) -> None:
    contract = tmp_path / "other.yaml"
    contract.write_text(SMALL + "action_space: bridge\n")
    status, text = command(str(bags), "--policy", "visual_servo", "--contract", str(contract))
    assert status == 2 and "delta_tcp" in text and "bridge" in text
