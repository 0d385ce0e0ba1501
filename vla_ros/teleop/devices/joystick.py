"""Gamepads by Linux's joystick interface (linux/joystick.h): events of eight bytes from /dev/input/js*."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_ros.errors import MachineError
from vla_ros.teleop.command import Command, Press, cut

EVENT = struct.Struct("<IhBB")
"""struct js_event: time [ms], value, type, number."""
BUTTON, AXIS, INITIAL = 0x01, 0x02, 0x80
FULL = 32767.0
DEAD_ZONE = 0.12
"""Share of the way in which a stick counts as let go."""


@dataclass(frozen=True)
class Layout:
    """Which axis and button is what.  The default is that of the kernel's xpad and of joy_node for it."""

    forward: int = 1
    left: int = 0
    up: int = 4
    yaw: int = 3
    pitch: int = 7
    roll: int = 6
    signs: tuple[float, ...] = (-1.0, -1.0, -1.0, -1.0, -1.0, 1.0)
    """Of forward, left, up, yaw, pitch, roll as the device counts; joy_node counts up and left positive."""
    dead_man: int = 5
    buttons: tuple[tuple[int, Press], ...] = (
        (0, Press.GRIPPER),
        (7, Press.START),
        (3, Press.SUCCESS),
        (1, Press.FAILURE),
        (6, Press.DISCARD),
        (4, Press.TAKE_OVER),
        (8, Press.HAND_BACK),
        (9, Press.SLOWER),
        (10, Press.FASTER),
    )


GAMEPAD = Layout()
JOY = Layout(signs=(1.0, 1.0, 1.0, 1.0, 1.0, -1.0))
"""For sensor_msgs/Joy of joy_node, which turns the signs of the sticks."""
KEYS = (
    ("right shoulder", "dead-man switch: nothing moves unless it is held"),
    ("left stick", "forward, back, left, right"),
    ("right stick", "up, down, turn about z"),
    ("cross", "turn about y and x"),
    ("A", "open or close the gripper"),
    ("Start", "start an episode"),
    ("Y", "end the episode: success"),
    ("B", "end the episode: failure"),
    ("Back", "discard the episode"),
    ("left shoulder", "take over from the policy"),
    ("Guide", "hand back to the policy"),
    ("stick buttons", "slower (left), faster (right)"),
)


def command_of(
    axes: Sequence[float], buttons: Sequence[int], pressed: Sequence[int], layout: Layout
) -> Command:
    """What sticks in [-1, 1] and buttons (0 or 1) ask for; `pressed`: buttons that have just gone down."""
    order = (layout.forward, layout.left, layout.up, layout.roll, layout.pitch, layout.yaw)
    signs = np.array([layout.signs[i] for i in (0, 1, 2, 5, 4, 3)])
    raw = np.array([axes[index] if index < len(axes) else 0.0 for index in order], dtype=float)
    size = np.abs(cut(raw))
    beyond = np.where(size > DEAD_ZONE, (size - DEAD_ZONE) / (1.0 - DEAD_ZONE), 0.0)
    motion = signs * np.sign(cut(raw)) * beyond
    engaged = layout.dead_man < len(buttons) and bool(buttons[layout.dead_man])
    presses = tuple(press for number, press in layout.buttons if number in pressed)
    if not engaged:
        motion = np.zeros(6)
    return Command(motion[:3], motion[3:], engaged, presses)


class JoystickState:
    """Events of the joystick interface, summed up."""

    def __init__(self) -> None:
        """Nothing is pressed."""
        self.axes: list[float] = []
        self.buttons: list[int] = []
        self._rest = b""

    def take(self, data: bytes) -> list[int]:
        """Take the bytes of events, which may be cut anywhere; the buttons that have gone down."""
        data, pressed = self._rest + data, []
        whole = len(data) - len(data) % EVENT.size
        self._rest = data[whole:]
        for _, value, kind, number in EVENT.iter_unpack(data[:whole]):
            if kind & ~INITIAL == AXIS:
                self.axes += [0.0] * (number + 1 - len(self.axes))
                self.axes[number] = max(value / FULL, -1.0)
            elif kind & ~INITIAL == BUTTON:
                self.buttons += [0] * (number + 1 - len(self.buttons))
                if value and not self.buttons[number] and not kind & INITIAL:
                    pressed.append(number)
                self.buttons[number] = int(bool(value))
        return pressed


class Gamepad:
    """See `Device`."""

    name = "gamepad"
    dead_man = True
    keys = KEYS

    def __init__(self, path: str = "", folder: Path = Path("/dev/input")) -> None:
        """`path` of the joystick; empty: the first js* in `folder`."""
        self._path, self._folder = path, folder
        self._state = JoystickState()
        self._descriptor = -1

    def open(self) -> None:
        """See `Device`."""
        path = self._path
        if not path:
            found = sorted(self._folder.glob("js*"))
            if not found:
                present = sorted(one.name for one in self._folder.glob("*")) if self._folder.is_dir() else []
                there = ", ".join(present[:8]) or "nothing"
                raise MachineError(
                    f"No gamepad is there: {self._folder}/js* was looked for, {self._folder} holds {there}."
                )
            path = str(found[0])
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise MachineError(f"The gamepad {path} cannot be opened: {error.strerror}.") from error
        self._path = path
        check_device(self._descriptor, f"The gamepad {path}", self.close)

    def read(self, now: float) -> Command:
        """See `Device`."""
        data = read_device(self._descriptor, f"The gamepad {self._path}", EVENT.size * 64)
        pressed = self._state.take(data)
        return command_of(self._state.axes, self._state.buttons, pressed, GAMEPAD)

    def close(self) -> None:
        """See `Device`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def check_device(descriptor: int, name: str, close: Callable[[], None]) -> None:
    """Close what is a file or a folder, and refuse it.  Raises `MachineError`."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        close()
        kind = "folder" if stat.S_ISDIR(mode) else "file"
        raise MachineError(f"{name} is no device but a {kind}; give that of the device (--device-path).")


def read_device(descriptor: int, name: str, size: int) -> bytes:
    """What a character device has to say now.  Raises `MachineError` when it was unplugged."""
    try:
        data = os.read(descriptor, size)
    except BlockingIOError:
        return b""
    except OSError as error:
        raise MachineError(f"{name} has gone: {error.strerror}.") from error
    if not data:
        raise MachineError(f"{name} has gone.")
    return data
