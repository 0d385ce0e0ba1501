"""Whether a robot that is not shipped can be driven, and simulated: found out before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vla_ros.contract import Contract
from vla_ros.errors import ConfigurationError
from vla_ros.evaluation.urdf_chain import read_urdf
from vla_ros.robots import load_robot
from vla_ros.robots.spec import RobotSpec

if TYPE_CHECKING:
    from vla_ros.robots.collision import CollisionModel

_EXAMPLES = {"ur_type": "ur5e", "robot_type": "fr3", "robot_model": "wx250s"}


def check_robot(contract: Contract, simulated: bool) -> None:
    """Build everything that the nodes will build of the robot, and look at its home posture.

    The shipped robots are known to pass.  Takes about a second.

    Raises:
        ConfigurationError: URDF and YAML do not fit each other, a joint moves nothing that could be kept from
            touching, home lies outside the workspace or too near to itself, the floor or an obstacle; with
            `simulated`, what MuJoCo cannot simulate.
    """
    robot = contract.robot
    if robot.shipped:
        return
    from vla_ros.policies.visual_servo.tool import tool_of
    from vla_ros.robots.collision import CollisionModel
    from vla_ros.robots.kinematics import Kinematics

    kinematics = Kinematics(robot)
    read_urdf(robot.urdf, robot.urdf_path)
    _check_bodies(robot)
    model = CollisionModel(robot)
    home = kinematics.forward(robot.home).position
    box = robot.workspace
    if not ((home >= box.minimum) & (home <= box.maximum)).all():
        where = ", ".join(f"{value:.3f}" for value in home)
        raise _wrong(robot, f"home puts the tool at ({where}) m, outside the workspace")
    _check_distances(model, robot)
    if contract.policy == "visual_servo":
        tool_of(robot, kinematics.forward_frame)
    if simulated:
        _check_simulation(contract)


def driver_kinds(robots: Sequence[str]) -> set[str]:
    """The kinds of driver of some robots, by name.  Raises `ConfigurationError`."""
    return {load_robot(name).driver.kind for name in robots}


def check_family(robot: RobotSpec, robots: Sequence[str], contract: str) -> None:
    """Refuse a contract of a robot with another driver than that of the family a launch file is for.

    Where the launch file's `robots` have several drivers, it is for any.  Raises `ConfigurationError`.
    """
    kinds = driver_kinds(robots)
    if len(kinds) == 1 and robot.driver.kind not in kinds:
        raise ConfigurationError(
            f"Launch argument 'contract' is {contract}, whose robot '{robot.name}' has the driver "
            f"{robot.driver.kind}, but this launch file is for {kinds.pop()}; launch robot.launch.py instead."
        )


def known_as(robot: RobotSpec, argument: str, shipped: str) -> str:
    """What the launch file of the robot's driver is to be told of its kind, as its `argument`.

    Raises `ConfigurationError` where the description of a robot that is not shipped does not say.
    """
    if robot.shipped:
        return shipped
    if argument not in robot.driver.extra:
        raise ConfigurationError(
            f"{robot.yaml_path}: driver.extra does not say {argument}, by which the launch file of "
            f"{robot.driver.kind} knows the robot, such as {_EXAMPLES[argument]}"
        )
    return str(robot.driver.extra[argument])


def _check_bodies(robot: RobotSpec) -> None:
    """Every joint carries a shape, without which no distance is kept, and a mass, for its torque."""
    from vla_ros.robots.bodies import read_bodies
    from vla_ros.robots.model import build_model

    model = build_model(robot)
    carried = {int(item.parentJoint) for item in read_bodies(model, robot)}
    for index, name in enumerate(model.names):
        if index and index not in carried:
            raise ConfigurationError(
                f"{robot.urdf_path}: nothing that joint '{name}' moves has a collision shape, so no distance "
                "could be kept; describe it by boxes, cylinders or spheres"
            )
        if index and model.inertias[index].mass <= 0.0:
            raise ConfigurationError(
                f"{robot.urdf_path}: nothing that joint '{name}' moves has a mass (<inertial>), so no torque "
                "could be limited"
            )


def _check_distances(model: CollisionModel, robot: RobotSpec) -> None:
    width = robot.gripper.max_width
    near = model.least_distances(robot.home, width)
    if len(near) and near.min() < robot.collision.stop_distance:
        one, other = model.pairs[int(near.argmin())]
        raise _wrong(
            robot,
            f"at home, '{one}' and '{other}' are {1000 * near.min():.1f} mm apart, less than stop_distance; "
            "make their shapes smaller, or list the pair in collision.excluded if the two cannot touch",
        )
    low = model.least_floor_heights(robot.home, width)
    if len(low) and low.min() < 0.0:
        link = model.floor_links[int(low.argmin())]
        raise _wrong(robot, f"at home, '{link}' is {-1000 * low.min():.1f} mm below the workspace's floor")
    things = model.obstacle_distances(robot.home, width)
    if len(things) and things.min() < robot.environment.stop_distance:
        link, thing = model.obstacle_pairs[int(things.argmin())]
        raise _wrong(robot, f"at home, '{link}' is {1000 * things.min():.1f} mm from obstacle '{thing}'")


def _check_simulation(contract: Contract) -> None:
    from vla_ros.sim.scene import build_scene
    from vla_ros.sim.tasks import make_task

    build_scene(contract.robot, contract.cameras)
    make_task("pick", "", 0, contract.robot)


def _wrong(robot: RobotSpec, what: str) -> ConfigurationError:
    return ConfigurationError(f"{robot.yaml_path}: {what}")
