"""What each robot's driver does when joint commands end, and what it can still be told then.

Sources: ur_robot_driver, hardware_interface.cpp (`write` repeats the last position every cycle while the
position controller is active); ros2_controllers, forward_command_controller (keeps the last command);
libfranka, rate_limiting.h and the FCI's checks of discontinuity; Interbotix xs_sdk (the motors have no
watchdog on the group command).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DriverStop:
    """The end of one kind of driver's motion when nobody commands it."""

    sentence: str
    """What the robot does, in a plain sentence."""
    service: str = ""
    """A std_srvs/Trigger that stops it; empty: there is none."""


DRIVER_STOPS = {
    "franka_ros2": DriverStop(
        "ros2_control repeats the last position: a robot at rest holds it, one in motion is stopped by the "
        "FCI's own check of discontinuity and needs its error recovery"
    ),
    "ur_robot_driver": DriverStop(
        "the driver repeats the last position, the robot goes there and holds it; its program is stopped "
        "through the dashboard (its receive timeout counts only when the driver itself is gone)",
        "/dashboard_client/stop",
    ),
    "interbotix": DriverStop(
        "the motors go on to their last goal and hold it; nothing is sent, and the torque stays on, because "
        "without it the arm would fall"
    ),
    "ros2_control": DriverStop(
        "ros2_control repeats the last position: the robot goes there and holds it, as far as its hardware "
        "does; nothing stops the arm itself"
    ),
    "simulated": DriverStop("the simulated robot goes on to its last command and holds it"),
}
"""By kind of driver."""
