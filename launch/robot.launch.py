"""The whole stack for any robot, one's own by the path of its YAML file too; see --show-args."""

from launch import LaunchDescription
from vla_ros.bringup.ros_launch import describe


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    return describe(["panda", "fr3", "widowx", "ur5", "ur5e"])
