"""How each robot's driver turns the commands it is sent into what its servos follow."""

from vla_ros.sim.drivers.latching import DYNAMIXEL_VELOCITY, Driver, make_driver

__all__ = ["DYNAMIXEL_VELOCITY", "Driver", "make_driver"]
