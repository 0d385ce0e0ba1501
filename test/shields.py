"""Shields for tests of one of their parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vla_ros.control.barriers import Barrier
from vla_ros.control.shield import Shield
from vla_ros.control.speed import SpeedLimits
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec


def shield_with(spec: RobotSpec, barriers: Sequence[Barrier], period: float, fast: bool = False) -> Shield:
    """A shield; `fast`: the limits of tool and elbow are out of reach, so that something else must hold."""
    tcp = replace(spec.tcp, speed=1e3, angular_speed=1e3) if fast else spec.tcp
    return Shield(spec, barriers, SpeedLimits(replace(spec, tcp=tcp), Kinematics(spec), period), period)
