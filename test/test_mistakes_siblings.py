"""Mistakes of the same kinds as in the table of mistakes, and what the help says."""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from mistaken import StartedError, desk, typed
from mistakes_table import KNOWN_SPACES, STARTS, UNDERSTOOD, Row, row
from own_robot import PAGE, make_files, spoil

from vla_ros.cli import app
from vla_ros.errors import ConfigurationError, VlaRosError
from vla_ros.policies.base import CameraNeed, PolicyRequirements
from vla_ros.policies.registry import make_policy, policy_names, policy_options
from vla_ros.preflight import preflight_problems
from vla_ros.robots import load_robot

__all__ = ["desk"]
SAME = (
    "cameras 'primary' and 'wrist' of same.yaml have the same topic /camera/primary/image_raw; "
    "each needs its own"
)
SWAPPED = "camera 'primary' of swap.yaml has the topic /camera/wrist/image_raw, which is that of"
ROWS = (
    row("policy check --robot same.yaml", 1, f"Problem: {SAME}"),
    row("demo --robot same.yaml", 2, SAME),
    row("up same.yaml", 2, SAME),
    row("eval --robot same.yaml", 2, SAME),
    row("teleop --robot same.yaml --device twist", 2, SAME),
    row("policy check --robot swap.yaml", 1, f"Problem: {SWAPPED}"),
    row("policy check --robot tiny.yaml --policy-option horizon=1", 1,
        "answers chunks of 0.2 s, but camera 'primary' of "
        "tiny.yaml gives 1 frames a second, so the robot would starve between frames"),
    row("demo --robot ur5e.yaml", 2, "contract ur5e.yaml does not exist; 'ur5e' without .yaml is a robot "
        "of the package"),
    row("demo --robot folder.yaml", 2, "contract folder.yaml cannot be read: Is a directory"),
    row("demo --robot latin.yaml", 2, "contract latin.yaml cannot be read: it is not text in UTF-8"),
    row("demo --robot list.yaml", 2, "contract list.yaml holds ['panda'], but must be a mapping with the "
        "key 'robot'"),
    row("demo --robot ''", 2, "key 'robot' must name a robot"),
    row("demo --robot ur5e.json", 2, "unknown robot 'ur5e.json' (did you mean ur5e?)"),
    row("demo --robot Panda", STARTS),
    row("demo --action-space Joint-Position", 2, "robot 'panda': action space 'Joint-Position' is "
        "unknown, known are "
        f"{KNOWN_SPACES}. Did you mean 'joint_position'?"),
    row("demo --instruction 'Возьми красный блок'", 2, '"Возьми красный блок" was not understood; '
        f'{UNDERSTOOD}'),
    row("demo --instruction 🤖", 2, f'The instruction "🤖" was not understood; {UNDERSTOOD}'),
    row("demo --instruction '...'", 2, f'The instruction "..." was not understood; {UNDERSTOOD}'),
    row("demo --instruction ' '", 2, f"The instruction is empty; {UNDERSTOOD}"),
    row("up panda --instruction 'fold the towel'", 2, f'"fold the towel" was not understood; {UNDERSTOOD}'),
    row("teleop --device twist --instruction 'fold the towel'", 2, '"fold the towel" was not understood;'),
    row("demo --policy-option horizon=zero", 2,
        "The option 'horizon' of policy 'visual_servo' is 'zero', but must be a whole number."),
    row("demo --policy-option latency=nan", 2, "is 'nan', but must be a finite number."),
    row("demo --policy-option hroizon=1", 2, "has no option 'hroizon'", "Did you mean 'horizon'?"),
    row("policy info openvla --policy-option checkpoint=7", 2, "but must be a text, in quotes: "
        "checkpoint='\"7\"'."),
    row("policy info openvla --policy-option crop=2", 2, "The option 'crop' of policy 'openvla' is 2, but "
        "must be true"),
    row("demo --policy none", 2, "answers nothing; a person drives with `vla-ros teleop`."),
    row("up panda --sim Mujoco", 2, "Simulator 'Mujoco' is unknown, known are mujoco, gazebo, none. Did "
        "you mean"),
    row("up panda --record e.mcap", 2, "A bag cannot be recorded to e.mcap: it exists already; name a new "
        "folder."),
    row("up panda --record emptyds", 2, "A bag cannot be recorded to emptyds: it exists already; name a "
        "new folder."),
    row("teleop --device twist --record e.mcap", 2, "Bags cannot be recorded to e.mcap: it is a file, but "
        "must be a"),
    row("teleop --device twist --record demos", STARTS),
    row("teleop --device twist --device-option foo=1", 2, "Device 'twist' has no options, but 'foo' was "
        "given."),
    row("teleop --device twist --device-option foo", 2, "An option of the device was given as 'foo', but "
        "is written"),
    row("teleop --device leader --device-option sings=1", 2, "Option of the leader 'sings' is unknown",
        "'signs'?"),
    row("teleop --device gamepad --device-path e.mcap", 2, "The gamepad e.mcap is no device but a file; "
        "give that of"),
    row("teleop --device gamepad --device-path docs", 2, "The gamepad docs is no device but a folder; give "
        "that of"),
    row("teleop --device spacemouse --device-path e.mcap", 2, "The 3D mouse e.mcap is no device but a "
        "file; give that"),
    row("teleop --device scripted --task pik", 2, "The task 'pik' is unknown", "Did you mean 'pick'?"),
    row("demo --runs e.mcap", 2, "Folder e.mcap/", "cannot be made: Not a directory."),
    row("eval --json emptyds", 2, "Invalid value for '--json': emptyds is a folder, but a file is to be "
        "written."),
    row("eval --json e.mcap/x.json", 2, "e.mcap/x.json cannot be written: e.mcap is no folder."),
    row("bag audit demo1 --html emptyds", 2, "Invalid value for '--html': emptyds is a folder, but a file "
        "is to be"),
    row("replay demo1 --json emptyds", 2, "Invalid value for '--json'"),
    row("policy bench --json emptyds", 2, "Invalid value for '--json'"),
    row("record --scripted --out new --json emptyds", 2, "Invalid value for '--json'"),
    row("data convert demos new --to LeRobot", 2, "Did you mean 'lerobot'?"),
    row("data convert demos new --to lerobot --rate 0", 2, "the rate 0 (--rate) must be above 0 steps a "
        "second."),
    row("data merge demos new", 2, "Given was only demos, new; at least 2 sources and then the target, a "
        "new folder,"),
    row("policy serve --token-file nowhere", 2, "The token file nowhere cannot be read: No such file or "
        "directory."),
    row("policy export octo --checkpoint e.mcap --out new", 2, "The checkpoint e.mcap is a file, but must "
        "be a folder"),
    row("robot ls", 2, "No such command 'ls'. Did you mean 'list'?"),
    row("bag inf demo1", 2, "No such command 'inf'. Did you mean 'info'?"),
    row("demo --timeout 10s", 2, "Invalid value for '--timeout'"),
    row("demo --timeout", 2, "Option '--timeout' requires an argument."),
    row("up", 2, "Missing argument 'robot'"),
)  # fmt: skip


@pytest.fixture()
def spoilt(desk: Path) -> Path:
    """The desk, with files named like contracts that are none."""
    (desk / "folder.yaml").mkdir(exist_ok=True)
    (desk / "latin.yaml").write_bytes("robot: dürr\n".encode("latin-1"))
    (desk / "list.yaml").write_text("[panda]\n")
    return desk


@pytest.mark.parametrize("mistake", ROWS, ids=str)
def test_a_sibling_ends_in_a_right_sentence(
    mistake: Row, spoilt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vla_ros.commands.teleop.own_terminal", lambda: "")
    words = shlex.split(mistake.command)
    if mistake.status is STARTS:
        with pytest.raises(StartedError):
            typed(words, spoilt, monkeypatch)
        return
    answer = typed(words, spoilt, monkeypatch)
    assert answer.status == mistake.status, answer.text
    for sentence in mistake.sentences:
        assert sentence in answer.text
    assert not list((spoilt / "runs").rglob("log")) and not (spoilt / "new").exists()


def test_a_port_that_is_taken(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        answer = typed(["policy", "serve", "--port", port], desk, monkeypatch)
    assert answer.status == 2 and answer.lines == 1
    assert answer.text == (
        f"Cannot serve on 127.0.0.1:{port}: the port is in use; --port 0 takes any that is free."
    )


def test_an_own_policy_may_leave_out_which_observation_it_answers(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked about some observations only, as in the graph, and its answers are screened as there."""
    words = "policy check --robot ur5e --policy custom --policy-option factory=mypol:make"
    answer = typed([*words.split(), "--policy-option", "speed=0.1"], desk, monkeypatch)
    assert answer.status == 0 and "fits robot 'ur5e', loads and answers." in answer.text


@pytest.mark.parametrize("name", policy_names())
def test_an_option_of_the_wrong_kind_is_refused_for_every_policy(name: str) -> None:
    robot = load_robot("panda")
    for key, default in (policy_options(name) or {}).items():
        if default is None or not isinstance(default, (bool, int, float, str)):
            continue
        for value in ([1], {"a": 1}, None):
            with pytest.raises(VlaRosError, match=f"'{key}' of policy '{name}' is .*, but must be "):
                make_policy(name, robot, **{key: value})


@pytest.mark.skipif(not PAGE.is_file(), reason="docs/ is not beside the tests")
@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("home", [0.0, 90.0, 30.0, 0.0, 90.0, 0.0], "at 90.000 rad is outside .*; is it in degrees"),
        ("workspace.minimum", [200.0, -250.0, 10.0], "is it in mm"),
        ("workspace.maximum", [600.0, 250.0, 350.0], "is it in mm"),
    ],
)
def test_degrees_and_millimetres_are_asked_about(
    tmp_path: Path, key: str, value: list[float], sentence: str
) -> None:
    folder = make_files(tmp_path)
    spoil(folder, key, value)
    with pytest.raises(ConfigurationError, match=sentence):
        load_robot(folder / "arm.yaml")


def test_a_camera_slower_than_the_chunks_last() -> None:
    from vla_ros.contract import load_contract

    def problems(rate: float, horizon: int) -> list[str]:
        contract = load_contract("ur5e", cameras={"primary": {"rate": rate}})
        needs = PolicyRequirements("delta_tcp", 5.0, horizon, (CameraNeed("primary"),))
        return [one for one in preflight_problems(contract, needs) if "between frames" in one]

    period = load_contract("ur5e").action_space.period
    for horizon in (1, 2, 8):
        assert not problems(1.0 / (horizon * period), horizon)
        assert problems(0.9 / (horizon * period), horizon)


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from _commands(command, (*path, name))


COMMANDS = dict(_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_every_word_of_it(
    path: tuple[str, ...], desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Units in brackets are no markup."""
    answer = typed([*path, "--help"], desk, monkeypatch)
    assert answer.status == 0
    shown = re.sub(r"\W+", " ", answer.text)
    for text in (COMMANDS[path].help, COMMANDS[path].epilog):
        assert re.sub(r"\W+", " ", text or "").strip() in shown
    for parameter in COMMANDS[path].params:
        help_ = getattr(parameter, "help", None) or ""
        if getattr(parameter, "hidden", False):
            continue
        assert re.sub(r"\W+", " ", help_).strip() in shown, parameter.name
        for unit in re.findall(r"\[\w+\]", help_):
            assert f"{help_.split(unit)[0].split()[-1]} {unit}" in answer.text
