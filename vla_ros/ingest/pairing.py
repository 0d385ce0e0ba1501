"""Pairs the frames of several cameras and the joints by stamp into observations."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from vla_ros.ingest.joints import JointBuffer
from vla_ros.ingest.screening import Rejection
from vla_ros.types import NANOSECONDS, Array, CameraImage, Observation, Pose

REMEMBERED = 8
"""Frames kept per camera while they wait for their partners."""


class Pairer:
    """The primary camera leads: its frame waits for the nearest frame of every other camera.

    A frame of another camera fits when its stamp is within half a period of the primary's, so of a regular
    camera exactly one does.  An observation leaves as soon as it is complete.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        period: float,
        joints: JointBuffer,
        tcp_pose: Callable[[Array], Pose],
    ) -> None:
        """`cameras`: the primary one first; `period` of the slowest camera [s]; `tcp_pose` of joints (n,)."""
        self._primary, *self._others = cameras
        self._order = tuple(cameras)
        self._tolerance = int(0.5 * period * NANOSECONDS)
        self._joints = joints
        self._tcp_pose = tcp_pose
        self._frames: dict[str, deque[CameraImage]] = {
            name: deque(maxlen=REMEMBERED) for name in self._others
        }
        self._pending: CameraImage | None = None
        self._sequence = 0

    def add(
        self, camera: str, frame: CameraImage, gripper_width: float | None
    ) -> tuple[Observation | None, Rejection | None]:
        """Take one good frame.

        Returns the observation it completes, if any, and why an earlier or this frame was given up, if so.
        """
        given_up: Rejection | None = None
        if camera == self._primary:
            if self._pending is not None:
                given_up = Rejection.SKEWED
            self._pending = frame
        else:
            self._frames[camera].append(frame)
        if self._pending is None:
            return None, None
        partners = self._partners(self._pending)
        if partners is None:
            return None, given_up
        primary, self._pending = self._pending, None
        joints = self._joints.at(primary.stamp)
        if joints is None:
            return None, Rejection.NO_JOINT_STATE
        if gripper_width is None:
            return None, Rejection.NO_GRIPPER_STATE
        self._sequence += 1
        images = {name: primary if name == self._primary else partners[name] for name in self._order}
        pose = self._tcp_pose(joints.positions)
        return Observation(primary.stamp, self._sequence, images, joints, gripper_width, pose), given_up

    def _partners(self, primary: CameraImage) -> Mapping[str, CameraImage] | None:
        partners = {}
        for name, frames in self._frames.items():
            nearest = min(frames, key=lambda frame: abs(frame.stamp - primary.stamp), default=None)
            if nearest is None or abs(nearest.stamp - primary.stamp) > self._tolerance:
                return None
            partners[name] = nearest
        return partners
