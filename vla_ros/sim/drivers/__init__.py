"""How each robot's driver turns the commands it is sent into what its servos follow."""

from __future__ import annotations

from vla_ros.errors import ConfigurationError
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.drivers.forward import ForwardDouble
from vla_ros.sim.drivers.interbotix import InterbotixDouble
from vla_ros.sim.drivers.latching import DYNAMIXEL_VELOCITY, Driver, LatchingDriver, SpeedLimitedDriver
from vla_ros.sim.drivers.ur import UrDouble

__all__ = [
    "DYNAMIXEL_VELOCITY",
    "Driver",
    "ForwardDouble",
    "InterbotixDouble",
    "UrDouble",
    "make_driver",
]

_KINDS = ("franka_ros2", "ur_robot_driver", "interbotix", "ros2_control")


def make_driver(spec: RobotSpec, patience: float = 0.0) -> Driver:
    """The driver behaviour of a robot.  Raises `ConfigurationError` for a kind that is not simulated.

    Args:
        spec: the robot.
        patience: 0: a driver that follows whatever it is sent; 1: the real driver's checks and timeouts;
            more: as many times the timeouts, for a machine whose clock stutters.
    """
    kind = spec.driver.kind
    if kind not in _KINDS:
        raise ConfigurationError(
            f"The driver kind '{kind}' in {spec.yaml_path} is not simulated; known are {', '.join(_KINDS)}."
        )
    if patience > 0.0:
        if kind == "franka_ros2":
            # its checks are compiled: numba, half of a simulator's imports, is loaded for a Franka alone
            from vla_ros.sim.drivers.franka import FrankaDouble

            return FrankaDouble(spec, patience)
        if kind == "ros2_control":
            return ForwardDouble(spec)
        return UrDouble(spec, patience) if kind == "ur_robot_driver" else InterbotixDouble(spec)
    return SpeedLimitedDriver(spec) if kind == "interbotix" else LatchingDriver(spec)
