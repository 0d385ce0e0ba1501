"""A recording of a hand that goes round in circles, for the policy `replay`."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def record_circle(path: Path, seconds: float, rate: float, radius: float, turn: float) -> None:
    """Write actions of the space delta_tcp in the y-z plane, gripper open.

    Args:
        path: .npz file to write.
        seconds: how long it lasts [s].
        rate: actions a second [Hz].
        radius: of the circle [m].
        turn: seconds for one round.
    """
    angles = np.arange(int(seconds * rate) + 1) * 2.0 * np.pi / (turn * rate)
    steps = np.diff(radius * np.column_stack([np.sin(angles), np.cos(angles)]), axis=0)
    actions = np.zeros((len(steps), 7))
    actions[:, 1:3], actions[:, 6] = steps, 1.0
    np.savez(path, actions=actions, action_space="delta_tcp", rate=rate)
