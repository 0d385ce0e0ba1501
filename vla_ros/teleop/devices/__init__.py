"""The devices: keyboards, gamepads, 3D mice, leader arms; each a small adapter."""

from __future__ import annotations

import os

DEVICES = ("keyboard", "gamepad", "spacemouse", "leader", "joy", "twist", "scripted")
"""By the names that commands and launch arguments take."""


def own_terminal() -> str:
    """Path of the terminal this process was started from; empty when there is none."""
    for descriptor in (0, 1, 2):
        try:
            return os.ttyname(descriptor)
        except OSError:
            continue
    return ""
