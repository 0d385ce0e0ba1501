"""Keys of a terminal as motion: a key moves for as long as it repeats, and a tap moves a little."""

from __future__ import annotations

import numpy as np

from vla_ros.teleop.command import Command, Press, cut
from vla_ros.teleop.devices.terminal import Terminal
from vla_ros.types import Array

TAP, HOLD = 0.1, 0.15
"""A key pressed once moves for `TAP`; one that repeats moves until `HOLD` after its last repeat [s]."""
REPEAT = 0.12
"""Presses of one key closer together than this are its repeats [s] (usual: 0.033, at most 0.1)."""

MOTIONS: dict[str, tuple[int, float, str]] = {
    "w": (0, 1.0, "forward (+x)"),
    "s": (0, -1.0, "back (-x)"),
    "a": (1, 1.0, "left (+y)"),
    "d": (1, -1.0, "right (-y)"),
    "r": (2, 1.0, "up (+z)"),
    "f": (2, -1.0, "down (-z)"),
    "j": (3, -1.0, "turn about x, negative"),
    "l": (3, 1.0, "turn about x, positive"),
    "i": (4, 1.0, "turn about y, positive"),
    "k": (4, -1.0, "turn about y, negative"),
    "u": (5, 1.0, "turn about z, counter-clockwise from above"),
    "o": (5, -1.0, "turn about z, clockwise from above"),
}
"""Axis, sign and meaning of every key that moves."""
ARROWS = {"A": "w", "B": "s", "C": "d", "D": "a"}
"""Ends of the arrows' escape sequences, and the keys they stand for."""
PRESSES: dict[str, tuple[Press, str]] = {
    " ": (Press.GRIPPER, "open or close the gripper"),
    "+": (Press.FASTER, "faster"),
    "-": (Press.SLOWER, "slower"),
    "\n": (Press.START, "start an episode"),
    "y": (Press.SUCCESS, "end the episode: success"),
    "n": (Press.FAILURE, "end the episode: failure"),
    "x": (Press.DISCARD, "discard the episode"),
    "t": (Press.TAKE_OVER, "take over from the policy"),
    "h": (Press.HAND_BACK, "hand back to the policy"),
    "e": (Press.ENGAGE, "engage a leader arm, or let it go"),
    "?": (Press.HELP, "show or hide the keys"),
}
"""What a key does when it goes down."""
LEVELS = "12345"
"""Keys that choose a speed level."""
NAMES = {" ": "space", "\n": "Enter"}


def key_table() -> tuple[tuple[str, str], ...]:
    """Every key and what it does."""
    rows = [(key, what) for key, (_, _, what) in MOTIONS.items()]
    rows.append(("arrows", "as w, s, a, d"))
    rows += [(NAMES.get(key, key), what) for key, (_, what) in PRESSES.items()]
    return (*rows, ("1-5", "speed level"))


class KeyMotion:
    """Bytes of a terminal to commands; no terminal of its own, no clock."""

    def __init__(self) -> None:
        """Nothing was pressed."""
        self._until: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._rest = b""

    def take(self, data: bytes, now: float) -> Command:
        """What is asked for at `now` [s] after `data` came."""
        presses: list[Press] = []
        level = None
        for key in self._keys(data):
            if key in MOTIONS:
                repeats = now - self._last.get(key, -np.inf) < REPEAT
                self._last[key] = now
                self._until[key] = now + (HOLD if repeats else TAP)
                opposite = _opposite(key)
                self._until.pop(opposite, None)
            elif key in PRESSES:
                presses.append(PRESSES[key][0])
            elif key in LEVELS:
                level = LEVELS.index(key)
        motion = np.zeros(6)
        for key, until in self._until.items():
            if now < until:
                axis, sign, _ = MOTIONS[key]
                motion[axis] += sign
        motion = cut(motion)
        return Command(_unit(motion[:3]), _unit(motion[3:]), bool(motion.any()), tuple(presses), level)

    def _keys(self, data: bytes) -> list[str]:
        """Single characters; arrows as the letters they stand for, other escape sequences as nothing."""
        text = (self._rest + data).decode("latin-1")
        self._rest = b""
        keys, place = [], 0
        while place < len(text):
            letter = text[place]
            if letter != "\x1b":
                keys.append("\n" if letter == "\r" else letter.lower())
                place += 1
                continue
            if len(text) < place + 3 and text[place + 1 : place + 2] in ("", "[", "O"):
                # the rest of a sequence may come with the next bytes; a lone Escape means nothing
                self._rest = text[place:].encode("latin-1") if len(text) - place > 1 else b""
                break
            if text[place + 1] in "[O":
                end = place + 2
                while end < len(text) and not "@" <= text[end] <= "~":
                    end += 1
                if end == place + 2 and text[end] in ARROWS:
                    keys.append(ARROWS[text[end]])
                place = end + 1
            else:
                place += 2
        return keys


def _opposite(key: str) -> str:
    axis, sign, _ = MOTIONS[key]
    return next(other for other, (a, s, _) in MOTIONS.items() if a == axis and s == -sign)


def _unit(vector: Array) -> Array:
    """Two axes at once are no faster than one."""
    return vector / max(1.0, float(np.linalg.norm(vector)))


class Keyboard:
    """See `Device`."""

    name = "keyboard"
    dead_man = False
    keys = key_table()

    def __init__(self, terminal: Terminal) -> None:
        """`terminal`: opened and closed by whoever shows the panel on it."""
        self._terminal, self._motion = terminal, KeyMotion()

    def open(self) -> None:
        """See `Device`; the terminal is open already."""

    def read(self, now: float) -> Command:
        """See `Device`."""
        return self._motion.take(self._terminal.read(), now)

    def close(self) -> None:
        """See `Device`."""
