"""The whole stack for the UR5 or UR5e; see --show-args."""

from launch import LaunchDescription
from vla_ros.bringup.ros_launch import describe


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    return describe(["ur5", "ur5e"])
