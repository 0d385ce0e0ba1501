"""A person at the keyboard who sees the tool and the block: drives the live graph by keys alone."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from keyboard_driver import REPEAT, Drive

from vla_ros.actions import rotations
from vla_ros.contract import Contract
from vla_ros.lockstep.simulated import Scene, make_world
from vla_ros.nodes.episode import Outcome
from vla_ros.robots.kinematics import Kinematics
from vla_ros.teleop.devices.keyboard import MOTIONS
from vla_ros.types import Array

NEAR, TURNED = 0.006, 0.06
"""How well the tool is put [m, rad]."""
ABOVE = 0.09
"""Height above the block from which it goes straight down [m]."""
SETTLE = 0.5
"""Seconds a tap takes to be carried out."""
_KEYS: Mapping[tuple[int, int], str] = {(axis, int(sign)): key for key, (axis, sign, _) in MOTIONS.items()}


class Pilot:
    """Picks the block that the instruction names."""

    def __init__(self, drive: Drive, contract: Contract) -> None:
        self._drive = drive
        self._contract = contract
        self._home = Kinematics(contract.robot).forward(np.asarray(contract.robot.home)).quaternion

    def pick(self, scene: Scene) -> bool:
        """Do it and say so with a key; whether it was a success."""
        place, turn = self._block(scene)
        keys = self._drive.keys
        keys.tap("5")
        time.sleep(0.3)
        self._go(np.append(place[:2], place[2] + ABOVE), turn, 0.03, 0.3)
        keys.tap("2")
        self._go(np.append(place[:2], place[2] + ABOVE), turn, NEAR, TURNED)
        keys.tap("3")
        self._go(place, turn, 0.02, TURNED)
        keys.tap("2")
        self._go(place, turn, NEAR, TURNED)
        keys.tap(" ")
        time.sleep(1.2)
        keys.tap("4")
        self._go(place + [0.0, 0.0, 0.15], turn, 0.03, 0.3, ended=True)
        ended = lambda: self._drive.heard.episodes[-1].outcome != Outcome.RUNNING  # noqa: E731
        if not self._drive.until(ended, 1.5):
            keys.tap("y")
        self._drive.until(ended, 10.0)
        return self._drive.heard.episodes[-1].outcome == Outcome.SUCCESS

    def _block(self, scene: Scene) -> tuple[Array, float]:
        """Where it lies and by how much to turn from home [m, rad]."""
        world = make_world(self._contract, scene)
        try:
            colour = next(c for c in world.block_states() if c in scene.instruction)
            pose = world.block_pose(colour)
        finally:
            world.close()
        matrix = rotations.to_matrix(pose.quaternion)
        yaw = float(np.arctan2(matrix[1, 0], matrix[0, 0]))
        return np.array(pose.position), (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4

    def _go(self, place: Array, turn: float, near: float, turned: float, ended: bool = False) -> None:
        """Hold the keys that lead there; far: all at once, near: in taps."""
        deadline = time.monotonic() + 25.0
        while time.monotonic() < deadline:
            if ended and self._drive.heard.episodes[-1].outcome != Outcome.RUNNING:
                return
            apart = np.append(place - np.array(self._drive.heard.tool), turn - self._turn())
            wanted = [axis for axis in range(3) if abs(apart[axis]) > near]
            if abs(apart[3]) > turned:
                wanted.append(3)
            if not wanted:
                # what is under way is waited for: the tool may run on
                time.sleep(SETTLE)
                apart = place - np.array(self._drive.heard.tool)
                if np.abs(apart).max() <= 1.5 * near and abs(turn - self._turn()) <= 1.5 * turned:
                    return
                continue
            self._press(wanted, apart)

    def _press(self, wanted: list[int], apart: Array) -> None:
        keys = [_KEYS[(5 if axis == 3 else axis, 1 if apart[axis] > 0.0 else -1)] for axis in wanted]
        for key in keys:
            self._drive.keys.tap(key)
        far = max(abs(apart[axis]) / (5.0 if axis == 3 else 1.0) for axis in wanted) > 0.04
        time.sleep(REPEAT if far else SETTLE)

    def _turn(self) -> float:
        """The tool's turn about z from home [rad]."""
        q = self._drive.heard.status[-1].reference_pose.orientation
        back = rotations.multiply(np.array([q.x, q.y, q.z, q.w]), rotations.conjugate(self._home))
        return float(rotations.log(back)[2])
