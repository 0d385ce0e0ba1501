"""Observations as a policy would have had them, from the steps of a data set."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from vla_ros.actions import rotations
from vla_ros.contract import Contract
from vla_ros.data.dataset import DatasetInfo
from vla_ros.data.episode import Episode
from vla_ros.errors import ConfigurationError, DataError
from vla_ros.policies.base import CameraNeed, PolicyRequirements
from vla_ros.robots.kinematics import Kinematics
from vla_ros.types import NANOSECONDS, Array, CameraImage, Image, JointState, Observation, Pose

BEGIN = NANOSECONDS
"""Stamp of a step 0 [ns]: 0 means "none" elsewhere."""
TCP_STATE = 7
"""Numbers of a state that is position [m], extrinsic xyz Euler angles [rad] and a gripper (BridgeData V2)."""


class Observer:
    """Makes observations of one data set for one policy."""

    def __init__(
        self, contract: Contract, needs: PolicyRequirements, info: DatasetInfo, cameras: Mapping[str, str]
    ) -> None:
        """`cameras`: the policy's name of a camera -> the data set's, where they differ.

        Raises `ConfigurationError` for a camera that is not there, `DataError` for states that are neither
        the robot's joints with the opening nor a pose of the tool with a gripper.
        """
        self._contract = contract
        self._period = contract.action_space.period
        self._kinematics = Kinematics(contract.robot)
        self._cameras = dict(_matched(needs.cameras, info, cameras))
        self._needs = {need.name: need for need in needs.cameras}
        robot = contract.robot
        self.joints_known = info.state_names[: robot.dof] == tuple(robot.joint_names)
        """False: joints are not in the data set; the robot's home posture stands for them."""
        if not self.joints_known and info.state_names and info.robot == robot.name:
            raise DataError(
                f"the states of {info.path} are {', '.join(info.state_names)}; they must begin with the "
                f"joints of {robot.name}: {', '.join(robot.joint_names)}."
            )

    @property
    def cameras(self) -> Mapping[str, str]:
        """The policy's name -> the data set's, of all cameras that are shown."""
        return self._cameras

    def observation(self, episode: Episode, step: int) -> Observation:
        """What is seen at one step.  Raises `DataError`."""
        stamp = BEGIN + round(step * self._period * NANOSECONDS)
        joints, width, pose = self._state(episode, step)
        images = {
            name: CameraImage(stamp, self._sized(name, episode.image(theirs, step)))
            for name, theirs in self._cameras.items()
        }
        return Observation(
            stamp=stamp,
            sequence=step + 1,
            images=images,
            joints=JointState(stamp, joints, np.zeros_like(joints), np.zeros(0)),
            gripper_width=width,
            tcp_pose=pose,
            instruction=episode.instructions[step] if episode.instructions else "",
        )

    def _state(self, episode: Episode, step: int) -> tuple[Array, float, Pose]:
        robot = self._contract.robot
        state = np.asarray(episode.states[step], float)
        known = episode.extra.get("observation/tcp_pose")
        if self.joints_known:
            joints = state[: robot.dof]
            width = float(state[robot.dof]) if len(state) > robot.dof else robot.gripper.max_width
            if known is None:
                return joints, width, self._kinematics.forward(joints)
            return joints, width, Pose(np.asarray(known[step][:3], float), np.asarray(known[step][3:], float))
        if len(state) != TCP_STATE:
            raise DataError(
                f"{episode.source}: its states have {len(state)} numbers; {robot.dof} joints of {robot.name} "
                f"and the opening are expected, or {TCP_STATE}: position, Euler angles, gripper."
            )
        opening = float(np.clip(state[6], 0.0, 1.0))
        span = robot.gripper.max_width - robot.gripper.min_width
        pose = Pose(state[:3], rotations.from_euler_xyz(state[3:6]))
        return np.asarray(robot.home, float), robot.gripper.min_width + opening * span, pose

    def _sized(self, name: str, rgb: Image) -> Image:
        """By area to what the policy asks for, as the ingester does."""
        need = self._needs.get(name)
        if need is None or not need.width or not need.height or rgb.shape[:2] == (need.height, need.width):
            return rgb
        sized = cv2.resize(rgb, (need.width, need.height), interpolation=cv2.INTER_AREA)
        return np.asarray(sized, np.uint8)


def _matched(needs: tuple[CameraNeed, ...], info: DatasetInfo, given: Mapping[str, str]) -> Mapping[str, str]:
    there = ", ".join(sorted(info.cameras)) or "none"
    for name, theirs in given.items():
        if theirs not in info.cameras:
            raise ConfigurationError(
                f"camera '{name}' is to be '{theirs}' of {info.path}, which has {there}."
            )
    result = {}
    for need in needs:
        theirs = given.get(need.name, need.name)
        if theirs in info.cameras:
            result[need.name] = theirs
        elif need.required:
            raise ConfigurationError(
                f"the policy needs camera '{need.name}', but {info.path} has {there}; "
                f"say which it is with --camera {need.name}=NAME."
            )
    return result
