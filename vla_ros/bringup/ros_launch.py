"""The graph as launch actions, for `ros2 launch`: the same description that the embedded runner starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from vla_ros.bringup.domain import LOCALHOST, RANGE
from vla_ros.bringup.drivers import driver_actions
from vla_ros.bringup.graph import (
    SIMULATORS,
    GraphOptions,
    Process,
    TeleopOptions,
    contract_for,
    environment,
    graph,
)
from vla_ros.bringup.robot_check import check_family, driver_kinds
from vla_ros.bringup.shm import clean_shared_memory, profile_variable
from vla_ros.errors import ConfigurationError, VlaRosError
from vla_ros.policies.options import mapped_options
from vla_ros.teleop.devices import DEVICES, own_terminal

DISCOVERY = {"localhost": LOCALHOST, "subnet": "SUBNET"}
"""Values of the argument `discovery`, and what they are called in the environment."""


def describe(robots: list[str], teleop: bool = False) -> LaunchDescription:
    """The launch description for a family of robots, the first of which is the default.

    Robots with different drivers are no family: then any robot may be named, one's own by its file too.

    `teleop`: a person drives; then no policy runs unless one is named.
    """
    arguments = [
        ("robot", robots[0], *_which(robots)),
        ("contract", "", "Path of a contract, or of a robot's own YAML file, instead of `robot`.", None),
        ("sim", "mujoco", "Simulator; none starts the real robot's driver.", list(SIMULATORS)),
        ("policy", "", "Name of the policy; empty: the contract's, visual_servo for a bare robot.", None),
        ("policy_options", "", "Options of the policy as a YAML mapping; empty: the contract's.", None),
        ("instruction", "", "Instruction to start with; empty: wait for one on /supervisor.", None),
        ("robot_ip", "", "Address of the real robot, for sim:=none.", None),
        ("record", "", "Folder of the bag to write; empty: nothing is recorded.", None),
        ("use_sim_time", "auto", "Follow /clock; auto: with gazebo only.", ["auto", "true", "false"]),
        ("rate", "0.0", "Steps of an action chunk per second [Hz]; 0: the action space's own.", None),
        ("timeout", "60.0", "Longest episode [s]; 0: no limit.", None),
        ("discovery", "", "Who may find and command the nodes: this machine alone or its subnet; empty: what "
         f"{RANGE} says, localhost where it is not set.", ["", *DISCOVERY]),
    ]  # fmt: skip
    if teleop:
        arguments += [
            ("device", "keyboard", "What the person moves the robot with.", list(DEVICES)),
            ("device_path", "", "File or topic of the device; empty: it is looked for.", None),
            ("device_options", "", "Options of the device as a YAML mapping.", None),
            ("terminal", "", "Path of the terminal for keys and panel; empty: that of the launch.", None),
            ("task", "", "Task of the episodes in the simulator: pick, place, push, stack.", None),
            ("action_space", "", "Name of the action space; empty: the contract's.", None),
        ]
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
                for name, default, text, choices in arguments
            ),
            OpaqueFunction(function=_actions, args=[teleop, robots]),
        ]
    )


def _which(robots: list[str]) -> tuple[str, list[str] | None]:
    """Description and choices of the argument `robot`."""
    if len(driver_kinds(robots)) == 1:
        return "Which robot of the family.", robots
    return f"{', '.join(robots)}, or the path of a robot's YAML file or of a contract.", None


def _actions(context: LaunchContext, teleop: bool, robots: list[str]) -> list[Any]:
    def given(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    local = _discovery(given("discovery"))
    sim = given("sim")
    clock, words = given("use_sim_time"), given("policy_options")
    options = GraphOptions(
        robot=given("contract") or given("robot"),
        sim=sim,
        policy=given("policy"),
        policy_options=mapped_options(words, "Launch argument 'policy_options'") if words else {},
        instruction=given("instruction"),
        record=given("record"),
        rate=_number(given("rate"), "rate"),
        timeout=_number(given("timeout"), "timeout"),
        use_sim_time=sim == "gazebo" if clock == "auto" else clock == "true",
    )
    if teleop:
        words = given("device_options")
        person = TeleopOptions(
            device=given("device"),
            device_path=given("device_path"),
            device_options=mapped_options(words, "Launch argument 'device_options'") if words else {},
            terminal=given("terminal") or own_terminal(),
            task=given("task"),
            instruction=given("instruction"),
            with_policy=bool(given("policy")),
        )
        # the person begins the episodes, and ends them
        options = replace(
            options, teleop=person, instruction="", action_space=given("action_space"), timeout=0.0
        )
    robot = contract_for(options).robot
    check_family(robot, robots, given("contract"))
    nodes = [node_action(process) for process in graph(options)]
    if sim == "mujoco":
        return [local, *nodes]
    return [local, *driver_actions(robot, sim, given("robot_ip")), *nodes]


def _discovery(asked: str) -> SetEnvironmentVariable:
    """Whom all nodes of the launch find, the driver's too: this machine alone unless somebody says otherwise.

    Whoever finds them may command the arm: nothing in ROS 2 asks for a name or a key by default.
    """
    if asked:
        os.environ[RANGE] = DISCOVERY[asked]
    else:
        os.environ.setdefault(RANGE, LOCALHOST)
    return SetEnvironmentVariable(RANGE, os.environ[RANGE])


def node_action(process: Process) -> Node:
    """One process; when a required one ends, so does the launch, with a status other than 0.

    launch's own patience stands: 5 s between SIGINT, SIGTERM and SIGKILL.  The safety controller needs up to
    3 s to bring the robot to rest on a machine that is late.
    """

    def ended(event: Any, context: LaunchContext) -> list[Any]:
        clean_shared_memory()
        if context.is_shutdown or not process.required:
            return []
        sentence = f"The node '{process.name}' ended by itself with status {event.returncode}."
        return [Shutdown(reason=sentence), OpaqueFunction(function=_fail, args=[sentence])]

    return Node(
        package="vla_ros",
        executable=process.name,
        name=process.name,
        parameters=[dict(process.parameters)],
        # of our own nodes alone, and nothing that the user has set
        additional_env={**_unset(environment()), **_profile(process)},
        output="screen",
        on_exit=ended,
    )


def _unset(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in os.environ}


def _profile(process: Process) -> dict[str, str]:
    """Transports of the node's middleware, unless the user has a profile of his own."""
    return {} if profile_variable() in os.environ else dict(process.environment)


def _fail(context: LaunchContext, sentence: str) -> None:
    raise VlaRosError(sentence)


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigurationError(f"Launch argument '{name}' is '{text}', but must be a number.") from error
