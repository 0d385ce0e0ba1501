"""What a camera frame must be before a policy sees it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from vla_ros.robots.spec import CameraSpec
from vla_ros.types import NANOSECONDS, Array, CameraImage, Image


class Rejection(str, Enum):
    """Why an input was not used."""

    STALE = "stale"
    FUTURE = "future"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    WRONG_SIZE = "wrong_size"
    MALFORMED = "malformed"
    BLACK = "black"
    FROZEN = "frozen"
    SKEWED = "skewed"
    JOINT_NAMES = "joint_names"
    NO_JOINT_STATE = "no_joint_state"
    NO_GRIPPER_STATE = "no_gripper_state"


@dataclass(frozen=True)
class FrameRules:
    """Thresholds; times in seconds."""

    max_age: float = 0.2
    max_future: float = 0.02
    frozen_after: float = 1.0
    """Identical frames for longer than this while the joints move are a frozen camera."""
    frozen_motion: float = 0.05
    """Joint motion [rad] meanwhile that counts as moving."""
    black_level: int = 8
    """A frame whose brightest sampled value is below this is black."""


class FrameScreen:
    """Judges the frames of one camera, in the order they arrive."""

    def __init__(self, camera: CameraSpec, rules: FrameRules) -> None:
        self.camera = camera
        self.rules = rules
        self._last_stamp: int | None = None
        self._still: Image | None = None
        self._still_since = 0
        self._still_joints: Array | None = None

    def judge(self, frame: CameraImage, now: int, joints: Array | None) -> tuple[Rejection, str] | None:
        """None when the frame is good, else the reason and one plain sentence.

        Args:
            frame: as it came from the camera, before resizing.
            now: ROS time [ns].
            joints: (n,) joint positions nearest the frame, None while none are known.
        """
        where = f"Image on {self.camera.topic}"
        age = (now - frame.stamp) / NANOSECONDS
        if -age > self.rules.max_future:
            return Rejection.FUTURE, (
                f"{where} is stamped {-age:.3f} s in the future, allowed are {self.rules.max_future:g} s; "
                "are the clocks synchronised?"
            )
        if age > self.rules.max_age:
            return Rejection.STALE, f"{where} is {age:.3f} s old, allowed are {self.rules.max_age:g} s."
        if self._last_stamp is not None and frame.stamp <= self._last_stamp:
            if frame.stamp == self._last_stamp:
                return Rejection.DUPLICATE, f"{where} carries the stamp of the frame before it."
            return Rejection.OUT_OF_ORDER, f"{where} is older than the frame before it."
        height, width = frame.rgb.shape[:2]
        if (width, height) != (self.camera.width, self.camera.height):
            return Rejection.WRONG_SIZE, (
                f"{where} is {width} x {height} pixels, "
                f"but the contract says {self.camera.width} x {self.camera.height}."
            )
        self._last_stamp = frame.stamp
        if int(frame.rgb[::4, ::4].max()) < self.rules.black_level:
            return Rejection.BLACK, f"{where} is black."
        if self._frozen(frame, joints):
            return Rejection.FROZEN, (
                f"{where} has shown the same picture for {(frame.stamp - self._still_since) / 1e9:.1f} s "
                "while the joints moved."
            )
        return None

    def _frozen(self, frame: CameraImage, joints: Array | None) -> bool:
        if self._still is None or not np.array_equal(self._still, frame.rgb):
            self._still, self._still_since, self._still_joints = frame.rgb, frame.stamp, joints
            return False
        if joints is None or self._still_joints is None:
            self._still_joints = joints
            return False
        moved = float(np.abs(joints - self._still_joints).max()) > self.rules.frozen_motion
        return moved and frame.stamp - self._still_since > self.rules.frozen_after * NANOSECONDS
