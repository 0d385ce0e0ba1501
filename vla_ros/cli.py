"""`vla-ros`: the command line.  What a command needs is imported when it runs, so that help is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vla_ros import __version__
from vla_ros.commands.shared import plain_errors

app = typer.Typer(
    name="vla-ros",
    help="From camera images and words to smooth, limited robot motion on ROS 2.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
robots = typer.Typer(help="What is known of the robots.", no_args_is_help=True)
app.add_typer(robots, name="robot")

Robot = Annotated[str, typer.Option(help="panda, fr3, widowx, ur5, ur5e, or the path of a contract in YAML.")]
Policy = Annotated[str, typer.Option(help="Name of the policy, for example visual_servo.")]
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


@app.command()
@plain_errors
def demo(
    robot: Robot = "panda",
    instruction: Annotated[
        list[str] | None,
        typer.Option(help='What to do, e.g. "pick up the red block"; may be given several times.'),
    ] = None,
    policy: Policy = "visual_servo",
    seed: Seed = 0,
    timeout: Timeout = 60.0,
    record: Annotated[bool, typer.Option(help="Write a bag, a video and a report.")] = True,
    runs: Runs = Path("runs"),
) -> None:
    """Simulate a robot, tell it what to do, and report how it went."""
    from vla_ros.bringup.graph import GraphOptions
    from vla_ros.commands.demo import DEFAULT_INSTRUCTION
    from vla_ros.commands.demo import demo as run

    options = GraphOptions(robot=robot, policy=policy, seed=seed, timeout=timeout)
    raise typer.Exit(run(options, instruction or [DEFAULT_INSTRUCTION], runs, record))


@app.command()
@plain_errors
def up(
    robot: Annotated[str, typer.Argument(help="panda, fr3, widowx, ur5, ur5e, or the path of a contract.")],
    sim: Annotated[
        str, typer.Option(help="mujoco simulates the robot; none: a driver is running.")
    ] = "mujoco",
    policy: Policy = "visual_servo",
    instruction: Annotated[str, typer.Option(help="Instruction to start with; empty: wait for one.")] = "",
    record: Annotated[str, typer.Option(help="Folder of the bag to write; empty: none.")] = "",
    seed: Seed = 0,
    timeout: Timeout = 60.0,
    runs: Runs = Path("runs"),
) -> None:
    """Start the graph of a robot and keep it running until Ctrl-C."""
    from vla_ros.bringup.graph import GraphOptions
    from vla_ros.commands.up import up as run

    options = GraphOptions(
        robot=robot,
        sim=sim,
        policy=policy,
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
    policy: Policy = "visual_servo",
    tasks: Annotated[str, typer.Option(help="Tasks with commas between: pick, place, push, stack.")] = "pick",
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each task.")] = 20,
    seed: Seed = 0,
    json: Annotated[
        Path | None, typer.Option(help="File for the result; default: in the run's folder.")
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

    options = GraphOptions(robot=robot, policy=policy, policy_delay=policy_delay, seed=seed, timeout=timeout)
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    raise typer.Exit(run(options, names, episodes, json, runs))


@app.command()
@plain_errors
def replay(
    rlds: Annotated[Path, typer.Option(help="Folder of an RLDS data set of BridgeData V2 (WidowX).")],
    json: Annotated[
        Path | None, typer.Option(help="File for the result; default: in the run's folder.")
    ] = None,
    most: Annotated[int, typer.Option(min=0, help="Play so many trajectories only; 0: all.")] = 0,
    runs: Runs = Path("runs"),
) -> None:
    """Play real recorded trajectories through the graph to a simulated WidowX and compare the paths."""
    from vla_ros.commands.replay import replay as run

    raise typer.Exit(run(rlds, json, runs, most))


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


@robots.command("info")
@plain_errors
def robot_info(
    name: Annotated[str, typer.Argument(help="panda, fr3, widowx, ur5 or ur5e.")],
) -> None:
    """Print a robot's limits, cameras and driver."""
    from vla_ros.commands.robot_info import robot_info as run

    raise typer.Exit(run(name))


def main() -> None:
    """Entry point of the `vla-ros` script."""
    app()


if __name__ == "__main__":
    main()
