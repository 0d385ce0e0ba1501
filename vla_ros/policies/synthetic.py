"""Observations that nobody made: for warming up, checking and timing a policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from vla_ros.policies.base import PolicyRequirements
from vla_ros.robots.spec import CameraSpec, RobotSpec
from vla_ros.types import NANOSECONDS, CameraImage, JointState, Observation, Pose


def synthetic_observations(
    robot: RobotSpec,
    cameras: Mapping[str, CameraSpec],
    requirements: PolicyRequirements,
    instruction: str,
    seed: int = 0,
) -> Iterator[Observation]:
    """Without end: noise in every camera of the contract, the robot at home, stamps at the policy's rate.

    Images have the size that the ingester would give them.
    """
    random = np.random.default_rng(seed)
    sizes = {need.name: (need.width, need.height) for need in requirements.cameras}
    zeros, period = np.zeros(len(robot.home)), round(NANOSECONDS / max(requirements.rate, 0.1))
    pose = Pose(np.array([0.4, 0.0, 0.3]), np.array([1.0, 0.0, 0.0, 0.0]))
    number = 0
    while True:
        number += 1
        stamp = NANOSECONDS + number * period
        images = {}
        for name, camera in cameras.items():
            width, height = sizes.get(name, (None, None))
            shape = (height or camera.height, width or camera.width, 3)
            images[name] = CameraImage(stamp, random.integers(0, 256, shape, dtype=np.uint8))
        joints = JointState(stamp, robot.home.copy(), zeros.copy(), zeros.copy())
        yield Observation(stamp, number, images, joints, robot.gripper.max_width, pose, instruction)
