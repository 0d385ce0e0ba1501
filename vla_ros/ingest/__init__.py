"""From camera frames and joint states to paired, screened observations; no ROS in here."""

from vla_ros.ingest.joints import JointBuffer, gripper_width_of
from vla_ros.ingest.pairing import Pairer
from vla_ros.ingest.screening import FrameRules, FrameScreen, Rejection

__all__ = ["FrameRules", "FrameScreen", "JointBuffer", "Pairer", "Rejection", "gripper_width_of"]
