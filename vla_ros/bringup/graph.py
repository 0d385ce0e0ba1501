"""The graph, described once: which processes, with which parameters, in which order.

The embedded runner and the launch files both start what `graph` returns, so they cannot drift apart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vla_ros.bringup.domain import LOCALHOST, RANGE
from vla_ros.bringup.instructions import Asked, check_episodes
from vla_ros.bringup.robot_check import check_robot
from vla_ros.bringup.shm import profile_variable
from vla_ros.contract import Contract, load_contract
from vla_ros.errors import ConfigurationError, ContractError, unknown
from vla_ros.policies.machine import check_machine
from vla_ros.policies.registry import family, policy_requirements
from vla_ros.preflight import preflight
from vla_ros.resources import resource_path

SIMULATORS = ("mujoco", "gazebo", "none")
MANAGED = ("ingester", "inference", "chunker", "safety_controller")
"""Lifecycle nodes in the order in which they are brought up."""
BRAKING = ("safety_controller", "simulator", "recorder")
"""Who must not be killed before the robot rests: who stops it, who moves it, who records it."""
NOBODY = "none"
"""The policy of a contract where a person alone drives."""
IMAGES = frozenset({"simulator", "recorder", "ingester", "inference", "teleop", "replayer"})
"""Nodes that exchange images, too large for UDP's buffers: the only ones with shared memory, whose price
stands in config/fastdds_udp.xml."""
MODEL_PATIENCE = 600.0
"""Longest time for bringing up a graph whose policy loads a model [s]."""


@dataclass(frozen=True)
class Process:
    """One process of the graph: a node of this package."""

    name: str
    """Name of the node and of its executable."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True
    """Whether the graph ends when this process does."""

    @property
    def module(self) -> str:
        """Module whose `main` runs the node."""
        return f"vla_ros.nodes.{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of this process alone, over those of the graph."""
        if self.name in IMAGES:
            return {profile_variable(): str(resource_path("config", "fastdds.xml"))}
        if os.environ.get(RANGE, LOCALHOST) != LOCALHOST:
            return {profile_variable(): str(resource_path("config", "fastdds_udp.xml"))}
        return {
            profile_variable(): str(resource_path("config", "fastdds_udp_local.xml")),
            RANGE: "SYSTEM_DEFAULT",
        }


@dataclass(frozen=True)
class TeleopOptions:
    """A person's device, and what the episodes are about; the names are those of the node's parameters."""

    device: str = "keyboard"
    device_path: str = ""
    device_options: Mapping[str, Any] = field(default_factory=dict)
    terminal: str = ""
    """Path of the terminal for keys and panel; empty: none."""
    task: str = ""
    instruction: str = ""
    speed_level: int = 3
    with_policy: bool = False
    """Whether a policy runs that the person takes over from."""
    per_episode: bool = True
    """Whether the recorder writes a bag an episode."""


@dataclass(frozen=True)
class GraphOptions:
    """What a user can choose; the names are those of the launch arguments and command-line options."""

    robot: str = "panda"
    """Name of a robot, or path of a robot's YAML file or of a contract."""
    sim: str = "mujoco"
    policy: str = ""
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    policy_delay: float = 0.0
    action_space: str = ""
    instruction: str = ""
    record: str = ""
    """Folder for the bag; empty: nothing is recorded."""
    record_cameras: bool = True
    rate: float = 0.0
    """Steps of a chunk per second [Hz]; 0: the action space's own."""
    use_sim_time: bool = False
    timeout: float = 60.0
    home_first: bool = True
    seed: int = 0
    teleop: TeleopOptions | None = None
    """A person who drives; None: nobody does."""
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further parameters by node, for experiments and tests."""


def contract_for(options: GraphOptions) -> Contract:
    """The checked contract of these options.

    Raises `ConfigurationError`, `ContractError` or `PolicyError`.
    """
    if options.sim not in SIMULATORS:
        raise ConfigurationError(unknown("Simulator", options.sim, SIMULATORS))

    person = options.teleop
    if person is not None and person.device == "scripted" and options.sim != "mujoco":
        raise ConfigurationError(
            f"Device 'scripted' needs a simulator that says where the objects are: sim must be 'mujoco', but "
            f"was given as '{options.sim}'."
        )
    alone = options.teleop is not None and not options.teleop.with_policy
    contract = load_contract(
        options.robot,
        simulated=options.sim != "none",
        policy=NOBODY if alone else options.policy or None,
        policy_options={} if alone else dict(options.policy_options) or None,
        action_space=options.action_space or None,
        action_rate=options.rate or None,
    )
    if person is None and contract.policy == NOBODY:
        raise ConfigurationError(
            f"Policy '{NOBODY}' of {contract.source} answers nothing; a person drives with `vla-ros teleop`."
        )
    requirements = policy_requirements(contract)
    preflight(contract, requirements)
    check_machine(contract.policy, requirements.machine)
    if not contract.cameras:
        raise ContractError(f"The contract of {contract.source} has no cameras, at least one is needed.")
    check_robot(contract, simulated=options.sim == "mujoco")
    _check_words(options, contract)
    _check_record(options)
    return contract


def _check_record(options: GraphOptions) -> None:
    """Refuse what the recorder would refuse, before anything is started.  Raises `ConfigurationError`."""
    path = Path(options.record)
    if not options.record or not path.exists():
        return
    if options.teleop is None or not options.teleop.per_episode:
        raise ConfigurationError(f"A bag cannot be recorded to {path}: it exists already; name a new folder.")
    if not path.is_dir():
        raise ConfigurationError(f"Bags cannot be recorded to {path}: it is a file, but must be a folder.")


def _check_words(options: GraphOptions, contract: Contract) -> None:
    """Refuse what is to be carried out from the start, where it is known that it cannot be."""
    person, simulated = options.teleop, options.sim == "mujoco"
    asked = [Asked("", options.instruction, options.seed)]
    if person is not None:
        if person.task and not simulated:
            raise ConfigurationError(
                f"A task is laid by the simulator, but sim is '{options.sim}': name an instruction instead "
                "(--instruction, or instruction:= of a launch file)."
            )
        asked.append(Asked(person.task, person.instruction, options.seed))
    asked = [one for one in asked if one.task or one.instruction.strip()]
    if asked:
        check_episodes(contract, asked, simulated)


def graph(options: GraphOptions) -> list[Process]:
    """Every process of the stack, in the order in which they are started.

    Raises what `contract_for` raises: nothing is started from options that do not fit together.
    """
    contract = contract_for(options)
    common = {"use_sim_time": options.use_sim_time}
    told = {
        **common,
        "contract": options.robot,
        "simulated": options.sim != "none",
        "policy": contract.policy,
        "policy_options": yaml.safe_dump(dict(contract.policy_options)) if contract.policy_options else "",
        "action_space": contract.action_space.name,
        "rate": contract.action_space.rate,
    }
    processes = []
    if options.sim == "mujoco":
        simulated = {"robot": options.robot, "seed": options.seed, "publish_clock": options.use_sim_time}
        processes.append(Process("simulator", simulated))
    if options.record:
        recorded = {"output": options.record, "cameras": options.record_cameras}
        if options.teleop is not None and options.teleop.per_episode:
            recorded["per_episode"] = True
        processes.append(Process("recorder", {**told, **recorded}))
    processes += [
        # Gazebo has ros2_control's controllers, but nothing of the drivers' own
        Process("safety_controller", {**told, "check_driver": options.sim != "gazebo"}),
        Process("ingester", told),
        Process("inference", {**told, "policy_delay": options.policy_delay}),
        Process("chunker", told),
        Process(
            "supervisor",
            {
                **common,
                "simulator": options.sim == "mujoco",
                "home_first": options.home_first,
                "home_gripper_width": contract.robot.gripper.max_width,
                "timeout": options.timeout,
                "instruction": options.instruction,
                **_up_patience(contract),
                "tabletop": family(contract.policy).tabletop,
            },
        ),
        Process("watchdog", {**common, "driver": _driver(options, contract)}),
        Process("lifecycle_manager", {**common, "nodes": list(MANAGED), **_patience(contract)}),
    ]
    if options.teleop is not None:
        processes = _driven(processes, options.teleop, told, options.seed)
    return [
        Process(p.name, {**p.parameters, **options.parameters.get(p.name, {})}, p.required) for p in processes
    ]


def _driven(
    processes: list[Process], teleop: TeleopOptions, told: Mapping[str, Any], seed: int
) -> list[Process]:
    """The same graph with a person in it; without a policy there is nobody to infer."""
    person = {
        **told,
        "device": teleop.device,
        "device_path": teleop.device_path,
        "device_options": yaml.safe_dump(dict(teleop.device_options)) if teleop.device_options else "",
        "terminal": teleop.terminal,
        "task": teleop.task,
        "instruction": teleop.instruction,
        "speed_level": teleop.speed_level,
        "with_policy": teleop.with_policy,
        "seed": seed,
    }
    if not teleop.with_policy:
        managed = [name for name in MANAGED if name != "inference"]
        processes = [
            Process(p.name, {**p.parameters, "nodes": managed}) if p.name == "lifecycle_manager" else p
            for p in processes
            if p.name != "inference"
        ]
    return [*processes, Process("teleop", person)]


def replay_graph(
    options: GraphOptions, contract: Contract, bags: Sequence[Path], rate: float, own_time: bool = False
) -> list[Process]:
    """The strip from policy output to robot, fed from bags instead of a policy; simulated.

    Args:
        options: `robot` is the file that the contract was written to; `record` and `seed` are used.
        contract: speaks the action space of the recordings.
        bags: played by number.
        rate: steps a second [Hz].
        own_time: everything follows the simulator's `/clock`, whose speed may be changed.
    """
    clock = {"use_sim_time": True} if own_time else {}
    told = {
        **clock,
        "contract": options.robot,
        "simulated": True,
        "action_space": contract.action_space.name,
        "rate": contract.action_space.rate,
    }
    # nobody looks through the simulated cameras: the recording has its own images
    simulated = {"robot": options.robot, "seed": options.seed, "camera_rate": 1.0}
    controlled: dict[str, Any] = {}
    chunked: dict[str, Any] = {}
    if own_time:
        simulated |= {"publish_clock": True, "clock_rate": 2000.0, "wait_for_controller": True}
        controlled = {"follow_clock": True}
        # where time is fast, two nodes' reading of it is further apart
        chunked = {"max_future": 0.3}
    recorded = {**told, "output": options.record, "cameras": False}
    played = {
        **clock,
        "bags": [str(bag) for bag in bags],
        "step_rate": rate,
        "action_space": contract.action_space.name,
    }
    nodes = ["chunker", "safety_controller"]
    return [
        Process("simulator", simulated),
        Process("recorder", recorded),
        Process("safety_controller", {**told, **controlled}),
        Process("chunker", {**told, **chunked}),
        Process("replayer", played),
        Process("lifecycle_manager", {**clock, "nodes": nodes}),
    ]


def _patience(contract: Contract) -> dict[str, Any]:
    """How long the nodes may take to configure, where a model is loaded that may be large [s]."""
    return {"patience": MODEL_PATIENCE} if family(contract.policy).isolated else {}


def _up_patience(contract: Contract) -> dict[str, Any]:
    """How long the supervisor waits for that [s]; the manager, which knows the reason, gives up first."""
    return {"up_patience": MODEL_PATIENCE + 60.0} if family(contract.policy).isolated else {}


def _driver(options: GraphOptions, contract: Contract) -> str:
    """The kind of driver whose stop the watchdog counts on."""
    return "simulated" if options.sim == "gazebo" else contract.robot.driver.kind


def environment() -> dict[str, str]:
    """Environment variables that all processes of the graph share; each has some of its own."""
    return {
        # one thread each: the processes share few cores, and small matrices gain nothing from more
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OPENCV_FOR_THREADS_NUM": "1",
        "RCUTILS_COLORIZED_OUTPUT": "0",
        "RCUTILS_CONSOLE_OUTPUT_FORMAT": "[{severity}] {message}",
    }


def run_folder(root: Path, stamp: str) -> Path:
    """A new folder `root/stamp`, with a suffix when it exists already."""
    for suffix in ("", *(f"_{n}" for n in range(2, 1000))):
        folder = root / f"{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigurationError(f"Folder {folder} cannot be made: {error.strerror}.") from error
        return folder
    raise ConfigurationError(f"Folder {root} holds too many runs of {stamp}.")
