"""Kinematic chains of the makers, entered apart from the URDFs, as ground truth for the tests.

Each row is (xyz [m], rpy [rad], axis or None): a joint's origin in its parent and its axis.
Sources: franka_description robots/{fer,fr3}/kinematics.yaml, Universal_Robots_ROS2_Description
config/{ur5,ur5e}/default_kinematics.yaml, interbotix_ros_manipulators wx250s.urdf.xacro.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

PI, HALF = np.pi, np.pi / 2
X, Y, Z = (1, 0, 0), (0, 1, 0), (0, 0, 1)


def _franka() -> list:
    return [
        ((0, 0, 0.333), (0, 0, 0), Z),
        ((0, 0, 0), (-HALF, 0, 0), Z),
        ((0, -0.316, 0), (HALF, 0, 0), Z),
        ((0.0825, 0, 0), (HALF, 0, 0), Z),
        ((-0.0825, 0.384, 0), (-HALF, 0, 0), Z),
        ((0, 0, 0), (HALF, 0, 0), Z),
        ((0.088, 0, 0), (HALF, 0, 0), Z),
        ((0, 0, 0.107), (0, 0, -PI / 4), None),  # flange, hand
        ((0, 0, 0.1034), (0, 0, 0), None),
    ]


def _ur(d1: float, a2: float, a3: float, d4: float, d5: float, d6: float, tool: float) -> list:
    return [
        ((0, 0, 0), (0, 0, PI), None),
        ((0, 0, d1), (0, 0, 0), Z),
        ((0, 0, 0), (HALF, 0, 0), Z),
        ((a2, 0, 0), (0, 0, 0), Z),
        ((a3, 0, d4), (0, 0, 0), Z),
        ((0, -d5, 0), (HALF, 0, 0), Z),
        ((0, d6, 0), (HALF, PI, PI), Z),
        ((0, 0, tool), (0, 0, 0), None),
    ]


CHAINS = {
    "panda": _franka(),
    "fr3": _franka(),
    "ur5": _ur(0.089159, -0.425, -0.39225, 0.10915, 0.09465, 0.0823, 0.154),
    "ur5e": _ur(0.1625, -0.425, -0.3922, 0.1333, 0.0997, 0.0996, 0.154),
    "widowx": [
        ((0, 0, 0.072), (0, 0, 0), Z),
        ((0, 0, 0.03865), (0, 0, 0), Y),
        ((0.04975, 0, 0.25), (0, 0, 0), Y),
        ((0.175, 0, 0), (0, 0, 0), X),
        ((0.075, 0, 0), (0, 0, 0), Y),
        ((0.065, 0, 0), (0, 0, 0), X),
        ((0.043 + 0.023 + 0.027575, 0, 0), (0, 0, 0), None),
    ],
}


def forward(name: str, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position and rotation matrix of the TCP."""
    position, rotation = np.zeros(3), np.eye(3)
    joint = 0
    for xyz, rpy, axis in CHAINS[name]:
        position = position + rotation @ np.array(xyz, dtype=float)
        rotation = rotation @ Rotation.from_euler("xyz", rpy).as_matrix()
        if axis is not None:
            rotation = rotation @ Rotation.from_rotvec(q[joint] * np.array(axis)).as_matrix()
            joint += 1
    return position, rotation
