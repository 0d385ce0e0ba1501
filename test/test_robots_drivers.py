"""What each adapter makes of its driver's status, and the order in which it asks for things."""

import dataclasses
from types import SimpleNamespace as Message

import pytest
import yaml

from vla_ros.errors import ConfigurationError, ObservationError
from vla_ros.resources import resource_path
from vla_ros.robots import load_robot
from vla_ros.robots.drivers import franka, make_adapter, ur
from vla_ros.robots.drivers.franka_state import ERRORS, read_state
from vla_ros.robots.drivers.interbotix import (
    DEFAULT_PROFILE,
    OPERATING_MODES,
    REGISTERS,
    STREAMING_PROFILE,
    TIMED,
    Profile,
)

ACTIVITY = "/controller_manager/activity"


def activity(controller="active", hardware="active", name="FrankaHardwareInterface"):
    def named(name, label):
        return Message(name=name, state=Message(label=label))

    return Message(
        controllers=[named("forward_position_controller", controller)],
        hardware_components=[named(name, hardware)],
    )


# -- Franka ------------------------------------------------------------------------------------------------


def franka_state(mode=franka.RobotMode.MOVE, error="", last=""):
    """A serialised FrankaRobotState without names and joints."""
    flags = [known == name for name in (error, last) for known in ERRORS]
    header = bytes(8) + bytes([1, 0, 0, 0]) + bytes(4)  # stamp, and an empty name with its zero
    joints = header + bytes(16)
    parts = [header, bytes(8 * 26), *[joints] * 3, bytes(8 * 14), joints, bytes(8 * 10)]
    for count in (6, 6, 10, 10, 10, 7, 7, 7, 7, 7, 6, 6, 6):
        parts += [header, bytes(8 * count)]
    return bytes([0, 1, 0, 0]) + b"".join(parts) + bytes(16) + bytes([int(mode)]) + bytes(flags)


def franka_adapter(state=None, told=None, time=10.0):
    adapter = make_adapter(load_robot("panda"))
    adapter.take("/franka_robot_state_broadcaster/robot_state", state or franka_state(), time)
    adapter.take(ACTIVITY, told or activity(), time)
    return adapter


def test_a_driver_that_has_said_nothing_is_unknown_and_says_which_topic_is_missing():
    for robot, topic in (
        ("panda", "/franka_robot_state_broadcaster/robot_state"),
        ("ur5", "/io_and_status_controller/robot_mode"),
        ("widowx", "/wx250s/get_motor_registers"),
    ):
        condition = make_adapter(load_robot(robot)).condition(0.0)
        assert (condition.ready, condition.known) == (False, False)
        assert topic in condition.sentence


def test_a_franka_in_move_with_its_controller_active_is_ready():
    adapter = franka_adapter()
    assert adapter.condition(10.0).ready
    assert adapter.start_up(10.0) == adapter.recovery(10.0) == ()


def test_a_reflex_says_why_and_is_recovered_in_the_order_of_the_drivers_documentation():
    state = franka_state(franka.RobotMode.REFLEX, last="joint_motion_generator_velocity_discontinuity")
    adapter = franka_adapter(state, activity("inactive", "unconfigured"))
    condition = adapter.condition(10.0)
    assert not condition.ready and condition.recoverable
    assert "acceleration was too high (joint_motion_generator_velocity_discontinuity)" in condition.sentence
    assert [request.name for request in adapter.recovery(10.0)] == [
        "/action_server/error_recovery",
        "/controller_manager/set_hardware_component_state",
        "/controller_manager/switch_controller",
    ]
    switch = adapter.recovery(10.0)[-1].values
    assert switch["activate_controllers"] == ["forward_position_controller"] and switch["strictness"] == 2


@pytest.mark.parametrize("mode", [franka.RobotMode.USER_STOPPED, franka.RobotMode.GUIDING, 17])
def test_a_franka_stopped_by_hand_is_not_recovered_from_here(mode):
    adapter = franka_adapter(franka_state(mode))
    condition = adapter.condition(10.0)
    assert not condition.ready and not condition.recoverable and condition.sentence
    assert adapter.recovery(10.0) == ()


@pytest.mark.parametrize(
    "told, word",
    [
        (activity("inactive"), "forward_position_controller is inactive"),
        (activity("active", "inactive"), "FrankaHardwareInterface is inactive"),
        (Message(controllers=[], hardware_components=[]), "not loaded"),
    ],
)
def test_an_inactive_controller_is_said_and_activated_by_recovery_alone(told, word):
    adapter = franka_adapter(told=told)
    assert word in adapter.condition(10.0).sentence
    assert adapter.start_up(10.0) == ()
    assert [request.kind.split("/")[0] for request in adapter.recovery(10.0)][-1] == "controller_manager_msgs"


def test_the_robot_state_is_read_as_the_middleware_writes_it():
    pytest.importorskip("rclpy")
    from franka_msgs.msg import Errors, FrankaRobotState
    from rclpy.serialization import serialize_message

    assert tuple(Errors.get_fields_and_field_types()) == ERRORS
    for words in ("", "a", "ab", "abcdefg", "abcdefgh"):
        for count in (0, 1, 7):
            state = FrankaRobotState(robot_mode=4, time=1.5)
            state.header.frame_id = state.o_t_ee.header.frame_id = words
            for joints in (state.measured_joint_state, state.tau_ext_hat_filtered):
                joints.name, joints.position, joints.effort = [words] * count, [0.5] * count, [1.0] * count
            state.current_errors = Errors(joint_reflex=True)
            state.last_motion_errors = Errors(joint_position_limits_violation=True, instability_detected=True)
            last = ("joint_position_limits_violation", "instability_detected")
            state.desired_joint_state.position = [0.1 * k for k in range(count)]
            read = read_state(serialize_message(state))
            assert (read.mode, read.errors, read.last_errors) == (4, ("joint_reflex",), last)
            assert list(read.commanded) == list(state.desired_joint_state.position)


@pytest.mark.parametrize(
    "data", [b"", bytes(10), bytes([0, 1, 0, 0]) + bytes(range(200)), bytes([7] * 3000), franka_state()[:-1]]
)
def test_bytes_that_are_no_robot_state_are_refused(data):
    with pytest.raises(ObservationError, match="no FrankaRobotState"):
        read_state(data)


def test_an_old_robot_state_counts_as_none():
    assert "no robot state" in franka_adapter(time=10.0).condition(13.5).sentence


# -- UR ----------------------------------------------------------------------------------------------------


def ur_adapter(
    robot=ur.RobotMode.RUNNING, safety=ur.SafetyMode.NORMAL, program=True, speed=1.0, told=None, time=10.0
):
    adapter = make_adapter(load_robot("ur5"))
    adapter.take("/io_and_status_controller/robot_mode", Message(mode=int(robot)), time)
    adapter.take("/io_and_status_controller/safety_mode", Message(mode=int(safety)), time)
    adapter.take("/io_and_status_controller/robot_program_running", Message(data=program), time)
    adapter.take("/speed_scaling_state_broadcaster/speed_scaling", Message(data=speed), time)
    adapter.take(ACTIVITY, told or activity(), time)
    return adapter


def names(requests):
    return [request.name.rsplit("/", 1)[1] for request in requests]


def test_a_ur_that_runs_its_program_at_full_speed_is_ready():
    adapter = ur_adapter()
    assert adapter.condition(10.0).ready
    assert adapter.start_up(10.0) == adapter.recovery(10.0) == ()


@pytest.mark.parametrize(
    "changes, word, recoverable",
    [
        ({"safety": ur.SafetyMode.PROTECTIVE_STOP, "program": False}, "protective stop", True),
        ({"safety": ur.SafetyMode.ROBOT_EMERGENCY_STOP}, "robot emergency stop", False),
        ({"safety": ur.SafetyMode.REDUCED}, "reduced", False),
        ({"safety": 99}, "undefined", False),
        ({"robot": ur.RobotMode.IDLE, "program": False}, "idle", True),
        ({"robot": ur.RobotMode.CONFIRM_SAFETY, "program": False}, "confirm safety", False),
        ({"program": False}, "program does not run", True),
        ({"told": activity("inactive")}, "forward_position_controller is inactive", True),
        ({"speed": 0.5}, "50%", False),
    ],
)
def test_what_keeps_a_ur_from_following_is_said(changes, word, recoverable):
    condition = ur_adapter(**changes).condition(10.0)
    assert not condition.ready and condition.known
    assert word in condition.sentence and condition.recoverable is recoverable


def test_a_protective_stop_is_unlocked_late_enough_and_the_program_sent_anew():
    adapter = ur_adapter(safety=ur.SafetyMode.PROTECTIVE_STOP, program=False, time=10.0)
    requests = adapter.recovery(12.0)
    assert names(requests) == [
        "close_safety_popup",
        "unlock_protective_stop",
        "stop",
        "resend_robot_program",
    ]
    assert requests[0].delay == pytest.approx(3.5)  # 5 s after the stop, and a little
    assert adapter.recovery(20.0)[0].delay == 0.0
    # the stop's time is that of its beginning, not of every message
    adapter.take("/io_and_status_controller/safety_mode", Message(mode=3), 12.0)
    assert adapter.recovery(12.0)[0].delay == pytest.approx(3.5)


def test_a_ur_whose_program_has_ended_is_started_at_activation_and_one_that_stopped_is_not():
    assert names(ur_adapter(program=False).start_up(10.0)) == ["resend_robot_program"]
    for changes in (
        {"safety": ur.SafetyMode.PROTECTIVE_STOP, "program": False},
        {"robot": ur.RobotMode.IDLE, "program": False},
    ):
        assert ur_adapter(**changes).start_up(10.0) == ()


def test_brakes_are_released_on_request_and_an_emergency_stop_is_left_to_people():
    assert names(ur_adapter(robot=ur.RobotMode.IDLE, program=False).recovery(10.0)) == [
        "brake_release",
        "resend_robot_program",
    ]
    assert ur_adapter(safety=ur.SafetyMode.ROBOT_EMERGENCY_STOP).recovery(10.0) == ()


# -- WidowX ------------------------------------------------------------------------------------------------


def widowx_adapter(torque=1, mode=3, profile=STREAMING_PROFILE, gripper=3):
    adapter = make_adapter(load_robot("widowx"))
    drive = TIMED if profile.timed else 0
    values = (torque, mode, drive, profile.velocity, profile.acceleration)
    by_register = dict(zip(REGISTERS, values, strict=True))
    for question in adapter.questions:
        of_gripper = question.values["cmd_type"] == "single"
        value = gripper if of_gripper else by_register[question.values["reg"]]
        adapter.answered(question, Message(values=[value] * 6), 1.0)
    return adapter


def test_a_widowx_set_for_streaming_is_ready():
    adapter = widowx_adapter()
    assert adapter.condition(1.0).ready
    assert adapter.start_up(1.0) == adapter.recovery(1.0) == ()


def test_the_default_profile_is_changed_before_streaming_and_looked_at_again():
    adapter = widowx_adapter(profile=DEFAULT_PROFILE)
    assert not adapter.condition(1.0).ready
    modes, *questions = adapter.start_up(1.0)
    assert modes.name == "/wx250s/set_operating_modes"
    assert modes.values == {
        "cmd_type": "group",
        "name": "arm",
        "mode": "position",
        "profile_type": "velocity",
        "profile_velocity": 131,
        "profile_acceleration": 15,
    }
    assert tuple(questions) == adapter.questions


def test_the_mode_is_left_alone_where_registers_are_enough():
    """Setting the mode takes the torque off for a moment."""
    adapter = widowx_adapter(profile=Profile(False, 60, 15))
    requests = adapter.start_up(1.0)
    assert [request.name for request in requests[:2]] == ["/wx250s/set_motor_registers"] * 2
    assert [request.values.get("value") for request in requests[:2]] == [131, 15]
    assert "set_operating_modes" not in names(requests)


def test_a_gripper_in_another_mode_is_set_and_the_arm_left_alone():
    adapter = widowx_adapter(gripper=16)  # PWM, the driver's default
    assert "gripper" in adapter.condition(1.0).sentence
    modes, *questions = adapter.start_up(1.0)
    assert (modes.values["cmd_type"], modes.values["name"], modes.values["mode"]) == (
        "single",
        "gripper",
        "linear_position",
    )
    assert tuple(questions) == adapter.questions


def test_the_modes_the_driver_is_launched_with_need_no_setting():
    modes = yaml.safe_load(resource_path("config", "interbotix_modes.yaml").read_text())
    arm, gripper = modes["groups"]["arm"], modes["singles"]["gripper"]
    profile = Profile(arm["profile_type"] == "time", arm["profile_velocity"], arm["profile_acceleration"])
    adapter = widowx_adapter(
        int(arm["torque_enable"]),
        OPERATING_MODES[arm["operating_mode"]],
        profile,
        OPERATING_MODES[gripper["operating_mode"]],
    )
    assert adapter.condition(1.0).ready
    assert gripper["operating_mode"] == "linear_position"


def test_torque_is_switched_on_by_a_person_only():
    adapter = widowx_adapter(torque=0)
    condition = adapter.condition(1.0)
    assert "no torque" in condition.sentence and condition.recoverable
    assert adapter.start_up(1.0) == ()
    torque, *questions = adapter.recovery(1.0)
    assert torque.name == "/wx250s/torque_enable" and tuple(questions) == adapter.questions


def test_one_motor_without_torque_is_enough():
    adapter = widowx_adapter()
    adapter.answered(adapter.questions[0], Message(values=[1, 1, 0, 1, 1, 1]), 2.0)
    assert not adapter.condition(2.0).ready


def test_an_unknown_driver_has_no_adapter():
    spec = load_robot("panda")
    odd = dataclasses.replace(spec, driver=dataclasses.replace(spec.driver, kind="telepathy"))
    with pytest.raises(ConfigurationError, match="telepathy"):
        make_adapter(odd)
