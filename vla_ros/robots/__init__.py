"""Robots: one URDF and one YAML each, loaded into a `RobotSpec`."""

from vla_ros.robots.loader import load_robot, robot_names

__all__ = ["load_robot", "robot_names"]
