"""3D mice by their HID reports from /dev/hidraw*.

Two forms are in use: report 1 holds three translations and report 2 three rotations (six bytes each), or
report 1 holds all six (twelve bytes); report 3 holds a bit a button.  Counts are signed 16-bit little-endian,
about 350 at full deflection; x points right, y towards the user, z down.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from vla_ros.errors import MachineError
from vla_ros.teleop.command import Command, Press, cut
from vla_ros.teleop.devices.joystick import check_device, read_device
from vla_ros.types import Array

VENDORS = {"046D": "Logitech", "256F": "3Dconnexion"}
"""USB vendors of 3D mice; Logitech sold them until 2009, and many other things."""
LOGITECH = {"C603", "C605", "C606", "C621", "C623", "C625", "C626", "C627", "C628", "C629", "C62B"}
"""Logitech's products that are 3D mice."""
FULL = 350.0
DEAD_ZONE = 0.08
SILENT = 0.25
"""Off its centre the cap reports every 8 ms; after so long without a report it counts as let go [s]."""
KEYS = (
    ("cap", "moves and turns the tool as it is moved; let go, it rests in the middle"),
    ("left button", "open or close the gripper"),
    ("right button", "start an episode; while one runs: end it, success"),
)


class SpaceMouseState:
    """Reports summed up to a motion in [-1, 1] and buttons."""

    def __init__(self) -> None:
        """At rest."""
        self._counts = np.zeros(6)
        self._buttons = 0
        self._heard = -np.inf

    def take(self, report: bytes, now: float) -> list[int]:
        """Take one report; the buttons that have gone down."""
        if len(report) < 2:
            return []
        kind, data = report[0], report[1:]
        if kind == 1 and len(data) >= 12:
            self._counts[:] = struct.unpack_from("<6h", data)
            self._heard = now
        elif kind in (1, 2) and len(data) >= 6:
            at = 3 * (kind - 1)
            self._counts[at : at + 3] = struct.unpack_from("<3h", data)
            self._heard = now
        elif kind == 3:
            bits = int.from_bytes(data[:4], "little")
            down, self._buttons = bits & ~self._buttons, bits
            return [number for number in range(32) if down >> number & 1]
        return []

    def motion(self, now: float) -> Array:
        """(6,) translation and rotation along and about the base axes, for a user who looks along +x."""
        if now - self._heard > SILENT:
            return np.zeros(6)
        x, y, z, rx, ry, rz = cut(self._counts / FULL)
        moved = np.array([-y, -x, -z, -ry, -rx, -rz])
        size = np.abs(moved)
        beyond = np.where(size > DEAD_ZONE, (size - DEAD_ZONE) / (1.0 - DEAD_ZONE), 0.0)
        return np.asarray(np.sign(moved) * beyond)


def find_mice(sysfs: Path = Path("/sys/class/hidraw")) -> list[tuple[str, str]]:
    """Device nodes of 3D mice and their names, by vendor and product in sysfs."""
    found = []
    for entry in sorted(sysfs.glob("hidraw*")):
        try:
            text = (entry / "device" / "uevent").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        parts = fields.get("HID_ID", "").split(":")
        if len(parts) != 3:
            continue
        vendor, product = parts[1][-4:].upper(), parts[2][-4:].upper()
        if vendor == "256F" or (vendor == "046D" and product in LOGITECH):
            found.append((f"/dev/{entry.name}", fields.get("HID_NAME", "3D mouse")))
    return found


def describe_present(sysfs: Path) -> str:
    """What there is instead, for a sentence."""
    names = []
    for entry in sorted(sysfs.glob("hidraw*")):
        try:
            text = (entry / "device" / "uevent").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        names += [line.split("=", 1)[1] for line in text.splitlines() if line.startswith("HID_NAME=")]
    return ", ".join(names[:6]) or "no HID device"


class SpaceMouse:
    """See `Device`.  The cap returns to its middle by itself: its deflection is the dead-man switch."""

    name = "spacemouse"
    dead_man = True
    keys = KEYS

    def __init__(self, path: str = "", sysfs: Path = Path("/sys/class/hidraw")) -> None:
        """`path` of the hidraw device; empty: the first 3D mouse in sysfs."""
        self._path, self._sysfs = path, sysfs
        self._state = SpaceMouseState()
        self._descriptor = -1
        self.episode_runs = False
        """Told by the node: what the right button means."""

    def open(self) -> None:
        """See `Device`."""
        if not self._path:
            mice = find_mice(self._sysfs)
            if not mice:
                raise MachineError(
                    f"No 3D mouse is there: vendor 256f (3Dconnexion) was looked for under {self._sysfs}, "
                    f"present: {describe_present(self._sysfs)}."
                )
            self._path = mice[0][0]
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise MachineError(
                f"The 3D mouse {self._path} cannot be opened: {error.strerror}; "
                "a udev rule must let you read it (docs/teleop.md)."
            ) from error
        check_device(self._descriptor, f"The 3D mouse {self._path}", self.close)

    def read(self, now: float) -> Command:
        """See `Device`."""
        pressed: list[int] = []
        while report := read_device(self._descriptor, f"The 3D mouse {self._path}", 64):
            pressed += self._state.take(report, now)
        motion = self._state.motion(now)
        right = Press.SUCCESS if self.episode_runs else Press.START
        presses = tuple({0: Press.GRIPPER, 1: right}[number] for number in pressed if number < 2)
        return Command(motion[:3], motion[3:], bool(motion.any()), presses)

    def close(self) -> None:
        """See `Device`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
