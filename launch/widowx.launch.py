"""The whole stack for the WidowX 250 6-DOF; see --show-args."""

from launch import LaunchDescription
from vla_ros.bringup.ros_launch import describe


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    return describe(["widowx"])
