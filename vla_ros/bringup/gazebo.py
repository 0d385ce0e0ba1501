"""What Gazebo needs of a robot: its URDF with hardware, cameras and plugin added, and the bridged topics."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import yaml

from vla_ros.errors import MachineError
from vla_ros.robots.spec import CameraSpec, RobotSpec
from vla_ros.types import Array

HARDWARE = "gz_ros2_control/GazeboSimSystem"
PLUGIN = ("gz_ros2_control-system", "gz_ros2_control::GazeboSimROS2ControlPlugin")
FIXED_TO = "world"
CONTROLLER = "forward_position_controller"
GRIPPER_CONTROLLER = "gripper_position_controller"


def check_gazebo() -> None:
    """Refuse to wait for a Gazebo that is not installed.  Raises `MachineError`."""
    if shutil.which("gz") is None:
        raise MachineError(
            "--sim gazebo needs Gazebo, whose command `gz` is not installed here; --sim mujoco simulates "
            "without it."
        )


def robot_description(robot: RobotSpec, controllers: Path) -> str:
    """The URDF as text, fixed to the ground, with cameras, position interfaces and the plugin for them.

    The plugin reads the file `controllers` (see `controller_parameters`).
    """
    root = ElementTree.fromstring(robot.urdf)
    ElementTree.SubElement(root, "link", name=FIXED_TO)
    _fixed_joint(root, "world_to_base", FIXED_TO, robot.base_frame, np.zeros(3), np.zeros(3))
    control = ElementTree.SubElement(root, "ros2_control", name="gazebo", type="system")
    hardware = ElementTree.SubElement(control, "hardware")
    ElementTree.SubElement(hardware, "plugin").text = HARDWARE
    start = dict(zip(robot.joint_names, robot.home, strict=True))
    start |= dict(zip(robot.gripper.joint_names, robot.gripper.joint_at_max_width, strict=True))
    for name, value in start.items():
        joint = ElementTree.SubElement(control, "joint", name=name)
        ElementTree.SubElement(joint, "command_interface", name="position")
        position = ElementTree.SubElement(joint, "state_interface", name="position")
        ElementTree.SubElement(position, "param", name="initial_value").text = f"{float(value):.6f}"
        ElementTree.SubElement(joint, "state_interface", name="velocity")
    gazebo = ElementTree.SubElement(root, "gazebo")
    plugin = ElementTree.SubElement(gazebo, "plugin", filename=PLUGIN[0], name=PLUGIN[1])
    ElementTree.SubElement(plugin, "parameters").text = str(controllers)
    for camera in robot.cameras.values():
        _add_camera(root, camera)
    return ElementTree.tostring(root, encoding="unicode")


def controller_name(robot: RobotSpec) -> str:
    """The controller that takes the joint commands: `driver.extra.controller`, else as its topic says."""
    parts = robot.driver.command_topic.strip("/").split("/")
    named = parts[0] if len(parts) == 2 and parts[1] == "commands" else CONTROLLER
    return str(robot.driver.extra.get("controller", named))


def controller_parameters(robot: RobotSpec, joints: Sequence[str]) -> str:
    """Parameters of ros2_control in YAML: a forward controller of `joints` on the driver's command topic.

    The controller is named after the topic, `/NAME/commands`, as ros2_controllers does.
    """
    name = controller_name(robot)
    forward = "forward_command_controller/ForwardCommandController"
    manager = {
        "update_rate": 500,
        "joint_state_broadcaster": {"type": "joint_state_broadcaster/JointStateBroadcaster"},
        name: {"type": forward},
        GRIPPER_CONTROLLER: {"type": forward},
    }
    document = {
        "controller_manager": {"ros__parameters": manager},
        name: {"ros__parameters": {"joints": list(joints), "interface_name": "position"}},
        GRIPPER_CONTROLLER: {
            "ros__parameters": {"joints": list(robot.gripper.joint_names), "interface_name": "position"}
        },
    }
    return yaml.safe_dump(document, sort_keys=False)


def bridged_topics(robot: RobotSpec) -> list[str]:
    """Arguments of ros_gz_bridge's parameter_bridge: the clock and the cameras, from Gazebo to ROS."""
    images = [f"{camera.topic}@sensor_msgs/msg/Image[gz.msgs.Image" for camera in robot.cameras.values()]
    return ["/clock@rosgraph_msgs/msg/Clock[gz.msgs.Clock", *images]


def _add_camera(root: ElementTree.Element, camera: CameraSpec) -> None:
    """A link at the optical frame, turned to Gazebo's camera axes (x forward, z up), with a sensor."""
    link = f"{camera.name}_camera_link"
    element = ElementTree.SubElement(root, "link", name=link)
    inertial = ElementTree.SubElement(element, "inertial")
    ElementTree.SubElement(inertial, "mass", value="0.01")
    tensor = {"ixx": "1e-6", "iyy": "1e-6", "izz": "1e-6", "ixy": "0", "ixz": "0", "iyz": "0"}
    ElementTree.SubElement(inertial, "inertia", tensor)
    optical = _matrix(camera.pose.quaternion)
    # columns: Gazebo's x, y, z axes in the optical frame (forward z, left -x, up -y)
    body = optical @ np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    _fixed_joint(root, f"{link}_joint", camera.parent_frame, link, camera.pose.position, _rpy(body))
    gazebo = ElementTree.SubElement(root, "gazebo", reference=link)
    sensor = ElementTree.SubElement(gazebo, "sensor", name=camera.name, type="camera")
    for name, text in (("update_rate", f"{camera.rate:g}"), ("topic", camera.topic), ("always_on", "true")):
        ElementTree.SubElement(sensor, name).text = text
    optics = ElementTree.SubElement(sensor, "camera")
    horizontal = 2.0 * math.atan(math.tan(0.5 * camera.fovy) * camera.width / camera.height)
    ElementTree.SubElement(optics, "horizontal_fov").text = f"{horizontal:.6f}"
    image = ElementTree.SubElement(optics, "image")
    for name, text in (("width", str(camera.width)), ("height", str(camera.height)), ("format", "R8G8B8")):
        ElementTree.SubElement(image, name).text = text
    clip = ElementTree.SubElement(optics, "clip")
    ElementTree.SubElement(clip, "near").text = "0.01"
    ElementTree.SubElement(clip, "far").text = "10"


def _fixed_joint(
    root: ElementTree.Element, name: str, parent: str, child: str, xyz: Array, rpy: Array
) -> None:
    joint = ElementTree.SubElement(root, "joint", name=name, type="fixed")
    ElementTree.SubElement(joint, "parent", link=parent)
    ElementTree.SubElement(joint, "child", link=child)
    ElementTree.SubElement(joint, "origin", xyz=_text(xyz), rpy=_text(rpy))


def _text(values: Array) -> str:
    return " ".join(f"{float(value):.9g}" for value in values)


def _matrix(quaternion: Array) -> Array:
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _rpy(r: Array) -> Array:
    """URDF's fixed-axis roll, pitch, yaw of a rotation matrix: R = Rz(yaw) Ry(pitch) Rx(roll)."""
    pitch = math.asin(float(np.clip(-r[2, 0], -1.0, 1.0)))
    if abs(r[2, 0]) > 1.0 - 1e-9:
        return np.array([0.0, pitch, math.atan2(-r[0, 1], r[1, 1])])
    return np.array([math.atan2(r[2, 1], r[2, 2]), pitch, math.atan2(r[1, 0], r[0, 0])])
