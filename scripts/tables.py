"""Write the tables that can be read off the code: docs/interfaces.md, docs/parameters.md, docs/robots.md, and
that of README.md.

`--check` writes nothing and fails when a table is out of date.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

import proven

from vla_ros.nodes.parameters import Parameter
from vla_ros.robots import load_robot, robot_names
from vla_ros.robots.spec import RobotSpec

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Written by `make docs`; change {} instead. -->"
NODES = (
    "ingester",
    "inference",
    "chunker",
    "safety_controller",
    "watchdog",
    "supervisor",
    "recorder",
    "simulator",
    "lifecycle_manager",
    "teleop",
)
PARTS = {"msg": [""], "srv": ["request", "response"], "action": ["goal", "result", "feedback"]}


def table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a Markdown table."""
    head = list(heading)
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines] + [""]


def interface(path: Path) -> list[str]:
    """One message, service or action: what its file says of itself, constants and fields."""
    lines = [f"### {path.stem}", ""]
    parts = path.read_text().split("\n---\n") if path.suffix != ".msg" else [path.read_text()]
    for title, text in zip(PARTS[path.suffix[1:]], parts, strict=True):
        rows, about = [], []
        for line in text.splitlines():
            code, _, comment = (piece.strip() for piece in line.partition("#"))
            if code:
                kind, name = code.split(maxsplit=1)
                rows.append([f"`{kind}`", f"`{name}`", comment])
            elif comment:
                about.append(comment)
        lines += [f"**{title}**", ""] if title else []
        lines += [*about, ""] if about else []
        lines += table(("type", "name", "meaning"), rows) if rows else ["Empty.", ""]
    return lines


def interfaces() -> list[str]:
    """docs/interfaces.md."""
    lines = ["# Interfaces", "", NOTE.format("msg/, srv/, action/"), ""]
    for folder, title in (("msg", "Messages"), ("srv", "Services"), ("action", "Actions")):
        lines += [f"## {title}", ""]
        for path in sorted((ROOT / folder).glob(f"*.{folder}")):
            lines += interface(path)
    return lines


def parameters_of(node: str) -> tuple[Parameter, ...]:
    """The parameter table of a node's module."""
    module = importlib.import_module(f"vla_ros.nodes.{node}")
    for value in vars(module).values():
        if getattr(value, "__module__", "") == module.__name__ and hasattr(value, "PARAMETERS"):
            found: tuple[Parameter, ...] = value.PARAMETERS
            return found
    raise SystemExit(f"The node {node} has no class with PARAMETERS.")


def parameters() -> list[str]:
    """docs/parameters.md."""
    lines = ["# Parameters of the nodes", "", NOTE.format("PARAMETERS in vla_ros/nodes/"), ""]
    for node in NODES:
        rows = [
            [
                f"`{row.name}`",
                type(row.default).__name__,
                f"`{row.default}`" if row.default not in ("", [""]) else "",
                row.allowed,
                row.description + ("" if row.read_only else " May change while the node runs."),
            ]
            for row in parameters_of(node)
        ]
        lines += [f"## {node}", "", *table(("name", "type", "default", "allowed", "meaning"), rows)]
    return lines


def robot_section(robot: RobotSpec) -> list[str]:
    """One robot: joints, tool, cameras, driver."""
    p, a = robot.published, robot.applied
    joints = [
        [
            f"`{name}`",
            f"{p.position_min[i]:.5g} to {p.position_max[i]:.5g}",
            f"{p.velocity[i]:.5g} ({a.velocity[i]:.5g})",
            f"{p.acceleration[i]:.5g} ({a.acceleration[i]:.5g})",
            f"{p.jerk[i]:.5g} ({a.jerk[i]:.5g})",
            f"{p.torque[i]:.5g}",
            f"{robot.home[i]:.5g}",
        ]
        for i, name in enumerate(robot.joint_names)
    ]
    heading = ("joint", "position [rad]", "velocity [rad/s]", "acceleration [rad/s2]", "jerk [rad/s3]")
    low, high = robot.workspace.minimum, robot.workspace.maximum
    box = ", ".join(f"{axis} {low[i]:g} to {high[i]:g}" for i, axis in enumerate("xyz"))
    driver = robot.driver
    facts = [
        ["tool", f"`{robot.tcp_frame}` in `{robot.base_frame}`"],
        ["tool speed", f"{robot.tcp.speed:g} m/s, {robot.tcp.angular_speed:g} rad/s"],
        ["workspace [m]", f"{box}; floor {robot.workspace.floor:g}"],
        ["gripper", f"{robot.gripper.min_width:g} to {robot.gripper.max_width:g} m"],
        ["control", f"{robot.control_rate:g} Hz, simulated {robot.simulated_control_rate:g} Hz"],
        ["driver", driver.kind],
        ["joint states", f"`{driver.joint_state_topic}` at {driver.joint_state_rate:g} Hz"],
        ["commands", f"`{driver.command_topic}`, {driver.command_type}, {driver.command_rate:g} Hz"],
    ]
    for camera in robot.cameras.values():
        size = f"{camera.width}x{camera.height} at {camera.rate:g} Hz"
        facts.append([f"camera {camera.name}", f"`{camera.topic}`, {size}, on `{camera.parent_frame}`"])
    return [
        f"## {robot.title}: `{robot.name}`",
        "",
        *table(("", ""), facts),
        *table((*heading, "torque [Nm]", "home [rad]"), joints),
    ]


def robots() -> list[str]:
    """docs/robots.md."""
    lines = ["# Robots", "", NOTE.format("config/robots/ and urdf/"), ""]
    lines += ["Joint limits are the maker's; those that the safety controller keeps stand in brackets.", ""]
    for name in robot_names():
        lines += robot_section(load_robot(name))
    return lines


def readme() -> list[str]:
    """README.md with its table of what has been tried."""
    heading, by_robot, anywhere = proven.rows(proven.load())
    lines = table(heading, by_robot) + table(("on no robot in particular", ""), anywhere)
    return proven.with_table((ROOT / "README.md").read_text(encoding="utf-8"), lines[:-1]).splitlines()


def main() -> int:
    """Write the tables, or with --check compare them; the exit status."""
    stale = []
    made = {"docs/interfaces.md": interfaces, "docs/parameters.md": parameters, "docs/robots.md": robots}
    for name, make in {**made, "README.md": readme}.items():
        path, text = ROOT / name, "\n".join(make()).rstrip() + "\n"
        if not path.is_file() or path.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if stale and "--check" in sys.argv:
        print(f"{', '.join(stale)} is out of date: run `make docs`.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
