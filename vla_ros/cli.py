"""`vla-ros`: the command line.  What a command needs is imported when it runs, so that help is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vla_ros import __version__
from vla_ros.commands import bag_app, data_app, replay_app, scripted_app, teleop_app
from vla_ros.commands.instructed import InstructedCommand
from vla_ros.commands.shared import ROBOT, file_to_write, plain_errors
from vla_ros.instruction import UNDERSTOOD

app = typer.Typer(
    name="vla-ros",
    help="From camera images and words to smooth, limited robot motion on ROS 2.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # markdown, because in rich markup the unit [s] would be taken for a tag
    rich_markup_mode="markdown",
)
robots = typer.Typer(help="What is known of the robots.", no_args_is_help=True)
app.add_typer(robots, name="robot")
policies = typer.Typer(
    help="What is known of the policies; check, time, export and serve one.", no_args_is_help=True
)
app.add_typer(policies, name="policy")
app.add_typer(bag_app.app, name="bag")
app.add_typer(data_app.app, name="data")

CAN = (
    f"The default policy, visual_servo, understands {UNDERSTOOD}; simulated scenes have blocks and plates in "
    "red, green, blue and yellow. What another policy can do and needs: `vla-ros policy info NAME`."
)
Robot = Annotated[str, typer.Option(help=ROBOT)]
Policy = Annotated[
    str,
    typer.Option(help="Name of the policy; empty: the contract's, visual_servo for a bare robot."),
]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option(help="An option of the policy as key=value; may be given several times."),
]
Rate = Annotated[
    float, typer.Option(min=0.0, max=200.0, help="Steps a second [Hz]; 0: the action space's own.")
]
ActionSpace = Annotated[str, typer.Option(help="Name of the action space; empty: the contract's.")]
PolicyName = Annotated[str, typer.Argument(help="Name of the policy, see `vla-ros policy list`.")]
Checkpoint = Annotated[str, typer.Option(help="Local folder or the id of a hub's repository.")]
OldOption = Annotated[list[str] | None, typer.Option("--option", hidden=True)]
"""What `--policy-option` was called in the commands on policies."""
Runs = Annotated[Path, typer.Option(help="Folder in which each run gets a folder of its own.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the scene; the same seed gives the same scene.")]
Timeout = Annotated[float, typer.Option(min=1.0, help="Longest time for one instruction [s].")]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """From camera images and words to smooth, limited robot motion on ROS 2."""
    if version:
        print(__version__)
        raise typer.Exit


@app.command(cls=InstructedCommand, epilog=CAN)
@plain_errors
def demo(
    robot: Robot = "panda",
    instruction: Annotated[
        list[str] | None,
        typer.Option(help='What to do, in quotes: "pick up the red block"; may be given several times.'),
    ] = None,
    policy: Policy = "",
    policy_option: PolicyOption = None,
    action_space: ActionSpace = "",
    seed: Seed = 0,
    timeout: Timeout = 60.0,
    record: Annotated[bool, typer.Option(help="Write a bag, a video and a report.")] = True,
    runs: Runs = Path("runs"),
) -> None:
    """Simulate a robot, tell it what to do, and report how it went."""
    from vla_ros.bringup.graph import GraphOptions
    from vla_ros.commands.demo import DEFAULT_INSTRUCTION
    from vla_ros.commands.demo import demo as run
    from vla_ros.policies.options import parsed_options

    options = GraphOptions(
        robot=robot,
        policy=policy,
        policy_options=parsed_options(policy_option or []),
        action_space=action_space,
        seed=seed,
        timeout=timeout,
    )
    raise typer.Exit(run(options, instruction or [DEFAULT_INSTRUCTION], runs, record))


@app.command(cls=InstructedCommand, epilog=CAN)
@plain_errors
def up(
    robot: Annotated[str, typer.Argument(help=ROBOT)],
    sim: Annotated[
        str, typer.Option(help="mujoco simulates the robot; none: a driver is running.")
    ] = "mujoco",
    policy: Policy = "",
    policy_option: PolicyOption = None,
    action_space: ActionSpace = "",
    instruction: Annotated[str, typer.Option(help="Instruction to start with; empty: wait for one.")] = "",
    record: Annotated[str, typer.Option(help="Folder of the bag to write; empty: none.")] = "",
    seed: Seed = 0,
    timeout: Timeout = 60.0,
    runs: Runs = Path("runs"),
) -> None:
    """Start the graph of a robot and keep it running until Ctrl-C."""
    from vla_ros.bringup.graph import GraphOptions
    from vla_ros.commands.up import up as run
    from vla_ros.policies.options import parsed_options

    options = GraphOptions(
        robot=robot,
        sim=sim,
        policy=policy,
        policy_options=parsed_options(policy_option or []),
        action_space=action_space,
        instruction=instruction,
        record=record,
        seed=seed,
        timeout=timeout,
    )
    raise typer.Exit(run(options, runs))


@app.command("eval")
@plain_errors
def evaluate(
    robot: Robot = "panda",
    policy: Policy = "",
    policy_option: PolicyOption = None,
    action_space: ActionSpace = "",
    tasks: Annotated[str, typer.Option(help="Tasks with commas between: pick, place, push, stack.")] = "pick",
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each task.")] = 20,
    seed: Seed = 0,
    json: Annotated[
        Path | None,
        typer.Option(callback=file_to_write, help="File for the result; default: in the run's folder."),
    ] = None,
    policy_delay: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="Added to every answer of the policy [s].")
    ] = 0.0,
    timeout: Timeout = 60.0,
    runs: Runs = Path("runs"),
) -> None:
    """Run many simulated episodes through the whole graph and count successes and limit violations."""
    from vla_ros.bringup.graph import GraphOptions
    from vla_ros.commands.evaluate import evaluate as run
    from vla_ros.policies.options import parsed_options

    options = GraphOptions(
        robot=robot,
        policy=policy,
        policy_options=parsed_options(policy_option or []),
        action_space=action_space,
        policy_delay=policy_delay,
        seed=seed,
        timeout=timeout,
    )
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    raise typer.Exit(run(options, names, episodes, json, runs))


for commands in (teleop_app, scripted_app, replay_app):
    commands.register(app)


@app.command()
@plain_errors
def doctor(
    robot: Annotated[
        str | None, typer.Option(help="Check the cameras of this robot or contract too.")
    ] = None,
) -> None:
    """Say in plain words what this machine has and lacks."""
    from vla_ros.commands.doctor import doctor as run

    raise typer.Exit(run(robot))


@robots.command("list")
@plain_errors
def robot_list() -> None:
    """Print every robot that comes with the package."""
    from vla_ros.commands.robot_info import robot_list as run

    raise typer.Exit(run())


@robots.command("info")
@plain_errors
def robot_info(
    name: Annotated[str, typer.Argument(help=ROBOT)],
) -> None:
    """Print a robot's limits, cameras and driver."""
    from vla_ros.commands.robot_info import robot_info as run

    raise typer.Exit(run(name))


@policies.command("list")
@plain_errors
def policy_list() -> None:
    """Print every policy and whether its libraries are installed."""
    from vla_ros.commands.policy import policy_list as run

    raise typer.Exit(run())


def _contract(
    robot: str,
    policy: str,
    checkpoint: str,
    options: list[str] | None,
    old: list[str] | None,
    action_space: str,
    rate: float,
) -> Any:
    from vla_ros.commands.policy import chosen
    from vla_ros.policies.options import parsed_options

    given = {"checkpoint": checkpoint} if checkpoint else {}
    typed = parsed_options([*(options or []), *(old or [])])
    return chosen(robot, policy, {**given, **typed}, action_space, rate)


@policies.command("info")
@plain_errors
def policy_info(
    name: PolicyName,
    robot: Robot = "panda",
    checkpoint: Checkpoint = "",
    policy_option: PolicyOption = None,
    option: OldOption = None,
    action_space: ActionSpace = "",
    rate: Rate = 0.0,
) -> None:
    """Print what a policy asks for: cameras, action space, horizon, normalisation, memory."""
    from vla_ros.commands.policy import policy_info as run

    raise typer.Exit(run(_contract(robot, name, checkpoint, policy_option, option, action_space, rate)))


@policies.command("check")
@plain_errors
def policy_check(
    robot: Robot = "panda",
    policy: Policy = "",
    checkpoint: Checkpoint = "",
    policy_option: PolicyOption = None,
    option: OldOption = None,
    action_space: ActionSpace = "",
    rate: Rate = 0.0,
) -> None:
    """Compare a policy with a robot, load it and let it answer once; a sentence for each problem."""
    from vla_ros.commands.policy import policy_check as run

    raise typer.Exit(run(_contract(robot, policy, checkpoint, policy_option, option, action_space, rate)))


@policies.command("bench")
@plain_errors
def policy_bench(
    robot: Robot = "panda",
    policy: Policy = "",
    checkpoint: Checkpoint = "",
    policy_option: PolicyOption = None,
    option: OldOption = None,
    action_space: ActionSpace = "",
    rate: Rate = 0.0,
    count: Annotated[int, typer.Option(min=1, max=100000, help="Answers to time.")] = 50,
    threads: Annotated[int, typer.Option(min=0, help="Threads on the CPU; 0: half of the cores.")] = 0,
    json: Annotated[Path | None, typer.Option(callback=file_to_write, help="File for the figures.")] = None,
) -> None:
    """Time a policy on made-up observations: by stage, answers and actions a second, memory."""
    from vla_ros.commands.policy import policy_bench as run

    contract = _contract(robot, policy, checkpoint, policy_option, option, action_space, rate)
    raise typer.Exit(run(contract, count, json, threads))


@policies.command("export")
@plain_errors
def policy_export(
    name: PolicyName,
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    checkpoint: Checkpoint = "",
    policy_option: PolicyOption = None,
    option: OldOption = None,
) -> None:
    """Write a checkpoint in the form that ONNX Runtime runs, without PyTorch (octo)."""
    from vla_ros.commands.policy import policy_export as run
    from vla_ros.policies.options import parsed_options

    raise typer.Exit(run(name, checkpoint, out, parsed_options([*(policy_option or []), *(option or [])])))


@policies.command("serve")
@plain_errors
def policy_serve(
    robot: Robot = "panda",
    policy: Policy = "",
    checkpoint: Checkpoint = "",
    policy_option: PolicyOption = None,
    option: OldOption = None,
    action_space: ActionSpace = "",
    rate: Rate = 0.0,
    host: Annotated[
        str, typer.Option(help="Address; other than this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 8000,
    token_file: Annotated[str, typer.Option(help="File with the token that clients must show.")] = "",
    certificate: Annotated[str, typer.Option(help="TLS certificate (PEM); with --key.")] = "",
    key: Annotated[str, typer.Option(help="Key of the certificate (PEM).")] = "",
    layout: Annotated[str, typer.Option(help="Names in the messages: vla_ros, droid or libero.")] = "vla_ros",
) -> None:
    """Serve a policy to robots elsewhere, and to clients of openpi, until Ctrl-C."""
    from vla_ros.commands.serve import serve as run

    contract = _contract(robot, policy, checkpoint, policy_option, option, action_space, rate)
    raise typer.Exit(run(contract, host, port, token_file, certificate, key, layout))


def main() -> None:
    """Entry point of the `vla-ros` script."""
    app()


if __name__ == "__main__":
    main()
