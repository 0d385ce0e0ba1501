"""What each ROS 2 driver must say before it is sent commands, and how it is brought back after a stop."""

from __future__ import annotations

from vla_ros.errors import ConfigurationError
from vla_ros.robots.drivers.condition import DriverAdapter, DriverCondition, Request, StatusTopic
from vla_ros.robots.drivers.franka import FrankaAdapter
from vla_ros.robots.drivers.interbotix import InterbotixAdapter
from vla_ros.robots.drivers.ros2_control import Ros2ControlAdapter
from vla_ros.robots.drivers.ur import UrAdapter
from vla_ros.robots.spec import RobotSpec

__all__ = ["DriverAdapter", "DriverCondition", "Request", "StatusTopic", "make_adapter"]


def make_adapter(spec: RobotSpec) -> DriverAdapter:
    """The adapter of a robot's driver.  Raises `ConfigurationError` for a kind that is unknown."""
    if spec.driver.kind == "franka_ros2":
        return FrankaAdapter(spec)
    if spec.driver.kind == "ur_robot_driver":
        return UrAdapter(spec)
    if spec.driver.kind == "interbotix":
        return InterbotixAdapter(spec)
    if spec.driver.kind == "ros2_control":
        return Ros2ControlAdapter(spec)
    raise ConfigurationError(f"The driver kind '{spec.driver.kind}' in {spec.yaml_path} has no adapter.")
