"""Devices: what bytes and messages ask for, and that one that is not there or goes says so."""

from __future__ import annotations

import os
import struct
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import ConfigurationError, MachineError
from vla_ros.robots import load_robot
from vla_ros.teleop.command import Press
from vla_ros.teleop.devices import keyboard
from vla_ros.teleop.devices.joystick import EVENT, GAMEPAD, Gamepad, JoystickState, command_of
from vla_ros.teleop.devices.keyboard import HOLD, MOTIONS, PRESSES, TAP, Keyboard, KeyMotion
from vla_ros.teleop.devices.leader import Leader, leader_layout
from vla_ros.teleop.devices.spacemouse import SpaceMouse, SpaceMouseState, find_mice
from vla_ros.teleop.devices.terminal import Terminal
from vla_ros.teleop.devices.twist import STALE, TwistState

PANDA = load_robot("panda")


@pytest.fixture
def pty() -> Iterator[tuple[int, str]]:
    master, slave = os.openpty()
    yield master, os.ttyname(slave)
    for descriptor in (master, slave):
        with suppress(OSError):
            os.close(descriptor)


# -- keyboard ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(MOTIONS))
def test_a_key_moves_along_its_axis_until_it_is_let_go(key: str) -> None:
    motion, (axis, sign, _) = KeyMotion(), MOTIONS[key]
    wanted = np.zeros(6)
    wanted[axis] = sign
    for tick in range(20):
        command = motion.take(key.encode(), 0.033 * tick)
        assert command.engaged
        np.testing.assert_array_equal(np.concatenate([command.linear, command.angular]), wanted)
    end = 0.033 * 19
    assert motion.take(b"", end + HOLD - 0.01).engaged
    let_go = motion.take(b"", end + HOLD + 0.001)
    assert not let_go.engaged and not let_go.linear.any() and not let_go.angular.any()


def test_a_tap_moves_for_a_tap() -> None:
    motion = KeyMotion()
    assert motion.take(b"w", 1.0).engaged
    assert motion.take(b"", 1.0 + TAP - 0.001).engaged
    assert not motion.take(b"", 1.0 + TAP + 0.001).engaged


def test_the_opposite_key_replaces_and_two_axes_are_no_faster() -> None:
    motion = KeyMotion()
    motion.take(b"w", 0.0)
    np.testing.assert_array_equal(motion.take(b"s", 0.01).linear, [-1.0, 0.0, 0.0])
    both = motion.take(b"a", 0.02).linear
    assert np.linalg.norm(both) == pytest.approx(1.0) and both[0] < 0.0 < both[1]


@pytest.mark.parametrize("key", sorted(PRESSES))
def test_keys_that_mean_something_once(key: str) -> None:
    assert KeyMotion().take(key.encode(), 0.0).presses == (PRESSES[key][0],)
    assert KeyMotion().take(b"4", 0.0).level == 3


def test_arrows_also_cut_in_two_and_other_sequences_mean_nothing() -> None:
    motion = KeyMotion()
    np.testing.assert_array_equal(motion.take(b"\x1b[A", 0.0).linear, [1.0, 0.0, 0.0])
    motion = KeyMotion()
    assert not motion.take(b"\x1b[", 0.0).engaged
    np.testing.assert_array_equal(motion.take(b"D", 0.0).linear, [0.0, 1.0, 0.0])
    # Delete and F5 hold no letters that move or end an episode
    command = KeyMotion().take(b"\x1b[3~\x1b[15~\x1bOP", 0.0)
    assert not command.engaged and not command.presses


@given(st.lists(st.binary(max_size=12), max_size=12))
def test_no_bytes_break_the_keyboard(parts: list[bytes]) -> None:
    motion = KeyMotion()
    for number, data in enumerate(parts):
        command = motion.take(data, 0.01 * number)
        assert np.abs(command.linear).max() <= 1.0 and np.abs(command.angular).max() <= 1.0
    assert not motion.take(b"", 10.0).engaged


def test_the_terminal_is_used_and_restored(pty: tuple[int, str]) -> None:
    master, path = pty
    before = termios.tcgetattr(master)
    terminal = Terminal(path)
    terminal.open()
    assert not termios.tcgetattr(master)[3] & (termios.ICANON | termios.ECHO)
    assert termios.tcgetattr(master)[3] & termios.ISIG
    device = Keyboard(terminal)
    assert not device.read(0.0).engaged
    os.write(master, b"w")
    assert device.read(0.1).engaged
    terminal.write("seen\n")
    assert b"seen" in os.read(master, 100)
    terminal.close()
    terminal.close()
    assert termios.tcgetattr(master) == before


def test_a_terminal_that_is_none_or_goes(pty: tuple[int, str], tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="nowhere"):
        Terminal("/dev/nowhere").open()
    file = tmp_path / "file"
    file.write_text("w")
    with pytest.raises(MachineError, match="is no terminal"):
        Terminal(str(file)).open()
    master, path = pty
    terminal = Terminal(path)
    terminal.open()
    os.close(master)
    with pytest.raises(MachineError, match="was closed"):
        for _ in range(3):
            terminal.read()
    terminal.write("nobody reads this")
    terminal.close()


# -- gamepad -----------------------------------------------------------------------------------------------


def event(value: int, kind: int, number: int) -> bytes:
    return EVENT.pack(0, value, kind, number)


def test_sticks_move_only_while_the_switch_is_held() -> None:
    state = JoystickState()
    state.take(event(-32767, 2, 1))
    assert not command_of(state.axes, state.buttons, [], GAMEPAD).engaged
    state.take(event(1, 1, 5))
    command = command_of(state.axes, state.buttons, [], GAMEPAD)
    assert command.engaged
    np.testing.assert_allclose(command.linear, [1.0, 0.0, 0.0])
    state.take(event(0, 1, 5))
    let_go = command_of(state.axes, state.buttons, [], GAMEPAD)
    assert not let_go.engaged and not let_go.linear.any()


@pytest.mark.parametrize(
    ("axis", "value", "expected"),
    [
        (0, -32767, (1, 1.0)),
        (4, -32767, (2, 1.0)),
        (3, -32767, (5, 1.0)),
        (7, -32767, (4, 1.0)),
        (6, 32767, (3, 1.0)),
        (0, 3000, (1, 0.0)),
    ],
)
def test_every_axis_of_the_gamepad(axis: int, value: int, expected: tuple[int, float]) -> None:
    state = JoystickState()
    state.take(event(value, 2, axis) + event(1, 1, 5))
    command = command_of(state.axes, state.buttons, [], GAMEPAD)
    motion = np.concatenate([command.linear, command.angular])
    wanted = np.zeros(6)
    wanted[expected[0]] = expected[1]
    np.testing.assert_allclose(motion, wanted, atol=1e-9)


def test_buttons_count_when_they_go_down_and_not_at_plugging_in() -> None:
    state = JoystickState()
    assert state.take(event(1, 0x81, 0)) == []
    assert state.take(event(0, 1, 0)) == []
    data = event(1, 1, 0)
    # cut anywhere
    assert state.take(data[:3]) == [] and state.take(data[3:]) == [0]
    assert command_of([], [1], [0], GAMEPAD).presses == (Press.GRIPPER,)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_gamepad(data: bytes) -> None:
    state = JoystickState()
    pressed = state.take(data)
    command = command_of(state.axes, state.buttons, pressed, GAMEPAD)
    assert np.abs(np.concatenate([command.linear, command.angular])).max() <= 1.0


def test_a_gamepad_that_is_not_there_or_is_unplugged(tmp_path: Path) -> None:
    (tmp_path / "mouse0").touch()
    with pytest.raises(MachineError, match=r"js\* was looked for.*mouse0"):
        Gamepad(folder=tmp_path).open()
    with pytest.raises(MachineError, match="nothing"):
        Gamepad(folder=tmp_path / "none").open()
    fifo = tmp_path / "js0"
    os.mkfifo(fifo)
    pad = Gamepad(folder=tmp_path)
    pad.open()
    writer = os.open(fifo, os.O_WRONLY)
    os.write(writer, event(-32767, 2, 1) + event(1, 1, 5))
    assert pad.read(0.0).engaged
    os.close(writer)
    with pytest.raises(MachineError, match="has gone"):
        pad.read(0.1)
    pad.close()


# -- 3D mouse ----------------------------------------------------------------------------------------------


def report(kind: int, *counts: int) -> bytes:
    return bytes([kind]) + struct.pack(f"<{len(counts)}h", *counts)


def test_both_forms_of_reports() -> None:
    for reports in ([report(1, 0, -350, 0), report(2, 0, 0, -350)], [report(1, 0, -350, 0, 0, 0, -350)]):
        state = SpaceMouseState()
        for one in reports:
            state.take(one, 0.0)
        np.testing.assert_allclose(state.motion(0.1), [1.0, 0.0, 0.0, 0.0, 0.0, 1.0], atol=1e-9)
        assert not state.motion(1.0).any()


def test_the_mouse_s_rest_and_buttons() -> None:
    state = SpaceMouseState()
    state.take(report(1, 10, -12, 5), 0.0)
    assert not state.motion(0.0).any()
    assert state.take(bytes([3, 1, 0]), 0.0) == [0]
    assert state.take(bytes([3, 3, 0]), 0.0) == [1]
    assert state.take(bytes([3, 0, 0]), 0.0) == []


@given(st.lists(st.binary(max_size=16), max_size=8))
def test_no_bytes_break_the_mouse(reports: list[bytes]) -> None:
    state = SpaceMouseState()
    for one in reports:
        state.take(one, 0.0)
    assert np.abs(state.motion(0.0)).max() <= 1.0


def test_a_mouse_is_found_by_its_vendor(tmp_path: Path) -> None:
    for number, (identity, name) in enumerate(
        [("0003:0000046D:0000C077", "Optical Mouse"), ("0003:0000256F:0000C635", "SpaceMouse Compact")]
    ):
        folder = tmp_path / f"hidraw{number}" / "device"
        folder.mkdir(parents=True)
        (folder / "uevent").write_text(f"HID_ID={identity}\nHID_NAME={name}\n")
    assert find_mice(tmp_path) == [("/dev/hidraw1", "SpaceMouse Compact")]
    (tmp_path / "hidraw1" / "device" / "uevent").unlink()
    with pytest.raises(MachineError, match="256f.*Optical Mouse"):
        SpaceMouse(sysfs=tmp_path).open()


def test_a_mouse_that_is_unplugged(tmp_path: Path) -> None:
    fifo = tmp_path / "hidraw9"
    os.mkfifo(fifo)
    mouse = SpaceMouse(str(fifo))
    mouse.open()
    writer = os.open(fifo, os.O_WRONLY)
    os.write(writer, report(1, 0, -350, 0, 0, 0, 0))
    assert mouse.read(0.0).engaged
    os.close(writer)
    with pytest.raises(MachineError, match="has gone"):
        mouse.read(0.1)
    mouse.close()


# -- topics ------------------------------------------------------------------------------------------------


def test_a_twist_moves_until_it_is_stale() -> None:
    state = TwistState()
    assert not state.command(0.0).engaged
    state.take((0.1, 0.0, 0.0), (0.0, 0.0, 0.2), 0.0)
    command = state.command(STALE - 0.01)
    assert command.engaged and command.physical and command.linear[0] == 0.1 and command.angular[2] == 0.2
    assert not state.command(STALE + 0.01).engaged


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_twist_that_is_not_finite_stops(bad: float) -> None:
    state = TwistState()
    state.take((0.1, 0.0, 0.0), (0.0,) * 3, 0.0)
    state.take((bad, 0.0, 0.0), (0.0,) * 3, 0.05)
    command = state.command(0.06)
    assert not command.engaged and not command.linear.any() and "not finite" in state.trouble


NAMES = [f"lead_{i}" for i in range(7)]
LAYOUT = {
    "names": NAMES, "signs": [1, -1, 1, 1, 1, 1, 1], "offsets": [0, 0, 0.1, 0, 0, 0, 0],
    "gripper": "trigger", "gripper_open": 0.0, "gripper_closed": 0.8,
}  # fmt: skip


def leader_at(joints: np.ndarray, now: float, leader: Leader, trigger: float = 0.0) -> None:
    raw = (joints - np.array([0, 0, 0.1, 0, 0, 0, 0])) * np.array([1, -1, 1, 1, 1, 1, 1])
    leader.take([*reversed(NAMES), "trigger"], [*raw[::-1], trigger], now)


def test_a_leader_engages_only_near_the_robot_and_lets_go_when_silent() -> None:
    leader = Leader(leader_layout(LAYOUT, PANDA), PANDA)
    assert not leader.toggle(PANDA.home, 0.0) and "not been heard" in leader.trouble
    away = PANDA.home.copy()
    away[3] += 0.5
    leader_at(away, 0.0, leader)
    assert not leader.toggle(PANDA.home, 0.0)
    assert PANDA.joint_names[3] in leader.trouble and "0.50 rad" in leader.trouble
    assert leader.joints(0.0) is None
    leader_at(PANDA.home, 0.1, leader, trigger=0.4)
    assert leader.toggle(PANDA.home, 0.1)
    np.testing.assert_allclose(leader.joints(0.1), PANDA.home)
    assert leader.width == pytest.approx(0.5 * PANDA.gripper.max_width)
    assert leader.joints(0.5) is None and "silent" in leader.trouble


def test_a_leader_that_is_not_finite_lets_go_and_one_without_a_joint_is_named() -> None:
    leader = Leader(leader_layout(LAYOUT, PANDA), PANDA)
    leader_at(PANDA.home, 0.0, leader)
    assert leader.toggle(PANDA.home, 0.0)
    leader.take(NAMES, [np.nan] * 7, 0.01)
    assert leader.joints(0.02) is None
    leader.take(NAMES[:-1], [0.0] * 6, 0.02)
    assert "lead_6" in leader.trouble


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"sings": []}, "sings"),
        ({"names": ["a"]}, "list of 7"),
        ({"signs": [2] * 7}, "1 and -1"),
        ({"offsets": ["x"] * 7}, "numbers"),
        ({"gripper": "t", "gripper_closed": 0.0}, "same"),
    ],
)
def test_bad_options_of_a_leader(options: dict[str, object], fragment: str) -> None:
    with pytest.raises(ConfigurationError, match=fragment):
        leader_layout(options, PANDA)


def test_the_document_has_every_key() -> None:
    text = (Path(__file__).parent.parent / "docs" / "teleop.md").read_text(encoding="utf-8")
    for key, what in keyboard.key_table():
        shown = "\\|" if key == "|" else key
        assert f"| `{shown}` | {what} |" in text, key
