"""What the real drivers would report of the simulated robot: names and units of their joint states."""

from __future__ import annotations

import numpy as np

from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.realtime import Sample
from vla_ros.types import Array

Report = tuple[tuple[str, ...], tuple[Array, Array, Array]]
"""Joint names; positions, velocities, efforts."""


def reported_position(spec: RobotSpec, width: float) -> float:
    """What the driver reports for an opening width [m], in the unit of its gripper joint."""
    closed, opened = (float(str(spec.driver.gripper[f"state_at_{end}_width"])) for end in ("min", "max"))
    share = (width - spec.gripper.min_width) / (spec.gripper.max_width - spec.gripper.min_width)
    return closed + share * (opened - closed)


def own_gripper_topic(spec: RobotSpec) -> bool:
    """Whether the gripper's joints come on a topic other than the arm's."""
    return spec.driver.gripper["joint_state_topic"] != spec.driver.joint_state_topic


def gripper_report(spec: RobotSpec, sample: Sample) -> Report:
    """The joints that the driver reports for its gripper."""
    gripper = spec.gripper
    names = tuple(str(name) for name in spec.driver.gripper["joint_names"])  # type: ignore[attr-defined]
    travel = gripper.max_width - gripper.min_width
    if names == gripper.joint_names:
        positions = sample.fingers
        slopes = (gripper.joint_at_max_width - gripper.joint_at_min_width) / travel
    else:
        # several fingers that the driver names otherwise than the URDF: each says what the first does
        positions = np.full(len(names), reported_position(spec, sample.gripper_width))
        ends = reported_position(spec, travel) - reported_position(spec, 0.0)
        slopes = np.full(len(names), ends / travel)
    return names, (positions, slopes * sample.gripper_speed, np.full(len(positions), sample.gripper_force))


def arm_report(spec: RobotSpec, sample: Sample) -> Report:
    """The driver's joint state, the gripper's joints behind the arm's where they share a topic."""
    scale = spec.contact.torque_per_effort
    efforts = sample.efforts if scale is None else sample.efforts / scale
    names, arm = spec.driver.joint_names, (sample.positions, sample.velocities, efforts)
    if own_gripper_topic(spec):
        return names, arm
    more, grip = gripper_report(spec, sample)
    positions, velocities, efforts = (np.concatenate([a, b]) for a, b in zip(arm, grip, strict=True))
    return (*names, *more), (positions, velocities, efforts)
