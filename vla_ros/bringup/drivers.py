"""Launch actions that start a real robot's own driver, or Gazebo, where those packages are installed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

from vla_ros.bringup import gazebo
from vla_ros.bringup.robot_check import known_as
from vla_ros.errors import ConfigurationError, MachineError
from vla_ros.resources import resource_path
from vla_ros.robots.spec import RobotSpec


def driver_actions(robot: RobotSpec, sim: str, robot_ip: str) -> list[Any]:
    """What to start beside the graph for sim:=none or sim:=gazebo.

    Of a robot that is not shipped, `driver.extra` says by which name its driver's launch file knows it, under
    that file's own argument (`ur_type`, `robot_type`, `robot_model`).  What drives an arm behind ros2_control
    is started by its own launch file, not from here.

    Raises `MachineError` when a package is missing and `ConfigurationError` when the address or name is.
    """
    if sim == "gazebo":
        return gazebo_actions(robot)
    kind = robot.driver.kind
    if kind == "ros2_control":
        return []
    if kind == "interbotix":
        # the driver talks to a USB port of this machine, not to an address
        return [
            _include(
                "interbotix_xsarm_control",
                "xsarm_control.launch.py",
                robot,
                {
                    "robot_model": known_as(robot, "robot_model", "wx250s"),
                    "use_rviz": "false",
                    "mode_configs": str(resource_path("config", "interbotix_modes.yaml")),
                },
            )
        ]
    if not robot_ip:
        raise ConfigurationError(f"sim:=none needs robot_ip:=, the address of the {robot.title}.")
    if kind == "ur_robot_driver":
        arguments = {
            "ur_type": known_as(robot, "ur_type", robot.name),
            "robot_ip": robot_ip,
            "initial_joint_controller": gazebo.controller_name(robot),
            "launch_rviz": "false",
        }
        return [_include("ur_robot_driver", "ur_control.launch.py", robot, arguments)]
    arguments = {
        "robot_type": known_as(robot, "robot_type", "fer" if robot.name == "panda" else robot.name),
        "robot_ip": robot_ip,
        "load_gripper": "true",
    }
    return [
        _include("franka_bringup", "franka.launch.py", robot, arguments),
        _spawner([gazebo.controller_name(robot), "--param-file", str(_controllers(robot))]),
    ]


def gazebo_actions(robot: RobotSpec) -> list[Any]:
    """robot_state_publisher, Gazebo with the table, the robot, its controllers and the bridge of the cameras.

    Raises `MachineError` when ros_gz_sim, ros_gz_bridge or gz_ros2_control is missing.
    """
    share = _share("ros_gz_sim", "sim:=gazebo")
    for package in ("ros_gz_bridge", "gz_ros2_control", "robot_state_publisher", "controller_manager"):
        _share(package, "sim:=gazebo")
    description = gazebo.robot_description(robot, _controllers(robot))
    world = resource_path("worlds", "table.sdf")
    simulator = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch" / "gz_sim.launch.py")),
        launch_arguments={"gz_args": f"-r -s --headless-rendering {world}"}.items(),
    )
    clock = {"use_sim_time": True}
    return [
        Node(
            package="robot_state_publisher",
            executable="robot_state_publisher",
            parameters=[{"robot_description": description, **clock}],
        ),
        simulator,
        Node(
            package="ros_gz_sim",
            executable="create",
            arguments=["-topic", "/robot_description", "-name", robot.name],
        ),
        _spawner(["joint_state_broadcaster", gazebo.controller_name(robot), gazebo.GRIPPER_CONTROLLER]),
        Node(
            package="ros_gz_bridge",
            executable="parameter_bridge",
            arguments=gazebo.bridged_topics(robot),
            parameters=[clock],
        ),
    ]


def _controllers(robot: RobotSpec) -> Path:
    """A file, for as long as the launch lives, with the controllers' parameters."""
    joints = robot.driver.joint_names
    with tempfile.NamedTemporaryFile(
        "w", suffix=".yaml", prefix="vla_ros_controllers_", delete=False
    ) as file:
        file.write(gazebo.controller_parameters(robot, joints))
    return Path(file.name)


def _spawner(arguments: list[str]) -> Node:
    return Node(package="controller_manager", executable="spawner", arguments=arguments)


def _include(
    package: str, file: str, robot: RobotSpec, arguments: dict[str, str]
) -> IncludeLaunchDescription:
    share = _share(package, f"sim:=none, the driver of the {robot.title}")
    source = PythonLaunchDescriptionSource(str(share / "launch" / file))
    return IncludeLaunchDescription(source, launch_arguments=arguments.items())


def _share(package: str, needed_for: str) -> Path:
    try:
        return Path(get_package_share_directory(package))
    except PackageNotFoundError as error:
        raise MachineError(f"{needed_for} needs the package '{package}', which is not installed.") from error
