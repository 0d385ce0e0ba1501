"""`vla-ros teleop`: a person moves the robot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vla_ros.commands.instructed import InstructedCommand
from vla_ros.commands.shared import ROBOT, plain_errors


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("teleop", cls=InstructedCommand)(teleop)


@plain_errors
def teleop(
    robot: Annotated[
        str, typer.Option(help=ROBOT)
    ] = "panda",
    device: Annotated[
        str, typer.Option(help="keyboard, gamepad, spacemouse, leader, joy, twist or scripted.")
    ] = "keyboard",
    device_path: Annotated[
        str, typer.Option(help="File or topic of the device; empty: it is looked for.")
    ] = "",
    device_option: Annotated[
        list[str] | None,
        typer.Option(help="An option of the device as key=value; may be given several times."),
    ] = None,
    task: Annotated[
        str, typer.Option(help="Task of the episodes in the simulator: pick, place, push, stack.")
    ] = "",
    instruction: Annotated[
        str, typer.Option(help="Instruction of the episodes; empty: the task's own.")
    ] = "",
    sim: Annotated[
        str, typer.Option(help="mujoco simulates the robot; none: a driver is running.")
    ] = "mujoco",
    record: Annotated[
        Path | None, typer.Option(help="Folder of the bags, one an episode; none: nothing is recorded.")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="A policy to take over from; none: the person alone drives.")
    ] = "none",
    policy_option: Annotated[
        list[str] | None,
        typer.Option(help="An option of the policy as key=value; may be given several times."),
    ] = None,
    action_space: Annotated[str, typer.Option(help="Name of the action space; empty: the contract's.")] = "",
    rate: Annotated[
        float, typer.Option(min=0.0, max=200.0, help="Actions a second [Hz]; 0: the action space's own.")
    ] = 0.0,
    speed: Annotated[int, typer.Option(min=1, max=5, help="Speed level at the start, 1 is precise.")] = 3,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the first scene; each further one has the next.")
    ] = 0,
    timeout: Annotated[float, typer.Option(min=0.0, help="Longest episode [s]; 0: no limit.")] = 0.0,
    terminal: Annotated[
        str, typer.Option(help="Path of the terminal for keys and panel; empty: this one.")
    ] = "",
    runs: Annotated[Path, typer.Option(help="Folder in which each run gets a folder of its own.")] = Path(
        "runs"
    ),
) -> None:
    """Drive the robot, record demonstrations, take over from a policy; docs/teleop.md."""
    from vla_ros.bringup.graph import GraphOptions, TeleopOptions
    from vla_ros.commands.teleop import drive
    from vla_ros.policies.options import parsed_options

    person = TeleopOptions(
        device=device,
        device_path=device_path,
        device_options=parsed_options(device_option or [], "device"),
        terminal=terminal,
        task=task,
        instruction=instruction,
        speed_level=speed,
        with_policy=policy not in ("", "none"),
    )
    options = GraphOptions(
        robot=robot,
        sim=sim,
        policy=policy if person.with_policy else "",
        policy_options=parsed_options(policy_option or []),
        action_space=action_space,
        rate=rate,
        record="" if record is None else str(record),
        seed=seed,
        timeout=timeout,
        teleop=person,
    )
    raise typer.Exit(drive(options, runs))
