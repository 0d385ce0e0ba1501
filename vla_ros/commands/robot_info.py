"""`vla-ros robot info`: what is known of a robot."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from vla_ros.bringup.robot_check import check_robot
from vla_ros.commands.safe_console import Console
from vla_ros.contract import load_contract
from vla_ros.robots import load_robot
from vla_ros.robots.loader import ALIASES, robot_names


def robot_list() -> int:
    """Print every robot of the package: name, title, joints, driver."""
    table = Table(title="Robots", title_justify="left")
    for heading in ("name", "also called", "what it is", "joints", "driver"):
        table.add_column(heading)
    for name in robot_names():
        robot = load_robot(name)
        aliases = ", ".join(alias for alias, target in ALIASES.items() if target == name)
        table.add_row(name, aliases, robot.title, str(robot.dof), robot.driver.kind)
    Console().print(table)
    return 0


def robot_info(name: str) -> int:
    """Print a robot's limits, cameras and driver; of a contract, those of its robot.

    Raises `ConfigurationError` for an unknown one and for one that could not be driven.
    """
    contract = load_contract(name)
    check_robot(contract, simulated=False)
    robot = contract.robot
    console = Console()
    console.print(f"[bold]{robot.title}[/bold] ({robot.name})", highlight=False)
    console.print(f"  described in {robot.yaml_path} and {robot.urdf_path}", highlight=False, soft_wrap=True)
    joints = Table(title="Joint limits: published (applied)", title_justify="left")
    for heading in (
        "joint",
        "position rad",
        "velocity rad/s",
        "acceleration rad/s2",
        "jerk rad/s3",
        "torque Nm",
        "home",
    ):
        joints.add_column(heading)
    p, a = robot.published, robot.applied
    for i, joint in enumerate(robot.joint_names):
        joints.add_row(
            joint,
            f"{p.position_min[i]:.3f} to {p.position_max[i]:.3f}",
            f"{p.velocity[i]:g} ({a.velocity[i]:g})",
            f"{p.acceleration[i]:g} ({a.acceleration[i]:g})",
            f"{p.jerk[i]:g} ({a.jerk[i]:g})",
            f"{p.torque[i]:g}",
            f"{robot.home[i]:.3f}",
        )
    console.print(joints)
    tcp, box, grip = robot.tcp, robot.workspace, robot.gripper
    console.print(
        f"Tool: {tcp.speed:g} m/s, {tcp.acceleration:g} m/s2, {tcp.angular_speed:g} rad/s; "
        f"frame {robot.tcp_frame}\n"
        f"Workspace in {robot.base_frame}: {_vector(box.minimum)} to {_vector(box.maximum)} m, "
        f"floor {box.floor:g} m\n"
        f"Gripper: {grip.min_width:g} to {grip.max_width:g} m, {grip.speed:g} m/s, "
        f"at most {grip.max_force:g} N\n"
        f"Driver: {robot.driver.kind}, joint states on {robot.driver.joint_state_topic} at "
        f"{robot.driver.joint_state_rate:g} Hz, commands on {robot.driver.command_topic} "
        f"({robot.driver.command_type})\n"
        f"Control rate: {robot.control_rate:g} Hz, simulated {robot.simulated_control_rate:g} Hz",
        highlight=False,
        soft_wrap=True,
    )
    for camera in robot.cameras.values():
        console.print(
            f"Camera {camera.name}: {camera.topic}, {camera.width} x {camera.height} at {camera.rate:g} Hz, "
            f"on {camera.parent_frame}",
            highlight=False,
            soft_wrap=True,
        )
    return 0


def _vector(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"
