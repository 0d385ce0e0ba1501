"""A leader arm (GELLO-style): its joints are the robot's, once brought near the robot's posture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.errors import ConfigurationError, unknown
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array

NEAR = 0.25
"""A joint further from the robot's than this keeps the leader from engaging [rad]."""
STALE = 0.2
"""A leader that has been silent for longer lets go [s]."""


@dataclass(frozen=True)
class LeaderLayout:
    """How the leader's joints become the robot's: robot = sign * leader + offset."""

    names: tuple[str, ...]
    """The leader's joint names in the order of the robot's joints."""
    signs: tuple[float, ...]
    offsets: tuple[float, ...]
    """[rad]"""
    gripper: str = ""
    """Name of the trigger's joint; empty: there is none."""
    gripper_open: float = 0.0
    gripper_closed: float = 1.0
    """Readings of the trigger at the gripper's ends."""


def check_device_options(device: str, options: Mapping[str, object], robot: RobotSpec) -> None:
    """Refuse options that a device does not have; only the leader has any.  Raises `ConfigurationError`."""
    if device == "leader":
        leader_layout(options, robot)
    elif options:
        raise ConfigurationError(f"Device '{device}' has no options, but '{next(iter(options))}' was given.")


def leader_layout(options: Mapping[str, object], robot: RobotSpec) -> LeaderLayout:
    """From a mapping of options; what is left out is the robot's own.  Raises `ConfigurationError`."""
    known = ("names", "signs", "offsets", "gripper", "gripper_open", "gripper_closed")
    strange = sorted(set(options) - set(known))
    if strange:
        raise ConfigurationError(unknown("Option of the leader", strange[0], known))
    names = _sequence(options.get("names"), list(robot.joint_names), "names", robot.dof)
    signs = _sequence(options.get("signs"), [1.0] * robot.dof, "signs", robot.dof)
    offsets = _sequence(options.get("offsets"), [0.0] * robot.dof, "offsets", robot.dof)
    layout = LeaderLayout(
        tuple(str(name) for name in names),
        tuple(_number(value, "signs") for value in signs),
        tuple(_number(value, "offsets") for value in offsets),
        str(options.get("gripper", "") or ""),
        _number(options.get("gripper_open", 0.0), "gripper_open"),
        _number(options.get("gripper_closed", 1.0), "gripper_closed"),
    )
    if any(abs(sign) != 1.0 for sign in layout.signs):
        raise ConfigurationError(
            f"Option 'signs' of the leader is {list(layout.signs)}, allowed are 1 and -1."
        )
    if layout.gripper and layout.gripper_open == layout.gripper_closed:
        raise ConfigurationError("Options 'gripper_open' and 'gripper_closed' of the leader are the same.")
    return layout


class Leader:
    """Readings of the leader, and whether it may lead."""

    def __init__(self, layout: LeaderLayout, robot: RobotSpec, near: float = NEAR) -> None:
        """`near`: tolerance a joint for engaging [rad]."""
        self._layout, self._robot, self._near = layout, robot, near
        self._joints: Array | None = None
        self._heard = -np.inf
        self.width: float | None = None
        self.engaged = False
        self.trouble = ""
        """Why it does not lead, one plain sentence."""

    def take(self, names: Sequence[str], positions: Sequence[float], now: float) -> None:
        """One reading of the leader's joint states."""
        found = dict(zip(names, positions, strict=False))
        missing = [name for name in self._layout.names if name not in found]
        if missing:
            self.trouble = f"The leader's joint states lack joint '{missing[0]}'."
            return
        raw = np.array([found[name] for name in self._layout.names], dtype=float)
        if not np.isfinite(raw).all():
            self.trouble = "A joint of the leader is not finite."
            self.engaged = False
            return
        self._joints = np.array(self._layout.signs) * raw + np.array(self._layout.offsets)
        self._heard = now
        trigger = found.get(self._layout.gripper, np.nan)
        if self._layout.gripper and np.isfinite(trigger):
            layout, gripper = self._layout, self._robot.gripper
            span = layout.gripper_open - layout.gripper_closed
            opening = float(np.clip((trigger - layout.gripper_closed) / span, 0.0, 1.0))
            self.width = gripper.min_width + opening * (gripper.max_width - gripper.min_width)

    def toggle(self, robot: Array, now: float) -> bool:
        """Engage, when the leader is near the robot's joints (n,) [rad], or let go; whether it leads."""
        if self.engaged:
            self.engaged, self.trouble = False, ""
            return False
        self.trouble = self.objection(robot, now)
        self.engaged = not self.trouble
        return self.engaged

    def objection(self, robot: Array, now: float) -> str:
        """Why it may not engage; empty: it may."""
        if self._joints is None:
            return self.trouble or "The leader has not been heard of yet."
        if now - self._heard > STALE:
            return f"The leader has been silent for {now - self._heard:.1f} s."
        away = np.abs(self._joints - robot)
        worst = int(np.argmax(away))
        if away[worst] > self._near:
            return (
                f"Bring the leader nearer to the robot: {self._robot.joint_names[worst]} is "
                f"{away[worst]:.2f} rad off, {self._near:g} rad are allowed."
            )
        return ""

    def joints(self, now: float) -> Array | None:
        """Where it leads to (n,) [rad]; None when it does not."""
        if self.engaged and now - self._heard > STALE:
            self.engaged = False
            self.trouble = "The leader fell silent and was let go."
        return self._joints if self.engaged else None


def _sequence(
    given: object, default: list[object] | list[str] | list[float], name: str, count: int
) -> list[object]:
    if given is None:
        return list(default)
    if not isinstance(given, (list, tuple)) or len(given) != count:
        raise ConfigurationError(
            f"Option '{name}' of the leader must be a list of {count}, but is {given!r}."
        )
    return list(given)


def _number(given: object, name: str) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not np.isfinite(given):
        raise ConfigurationError(f"Option '{name}' of the leader holds {given!r}, but needs numbers.")
    return float(given)
