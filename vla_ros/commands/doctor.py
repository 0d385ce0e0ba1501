"""`vla-ros doctor`: what the machine has and lacks."""

from __future__ import annotations

from vla_ros.bringup.doctor import run_checks
from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import print_next
from vla_ros.contract import load_contract

MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}
LACKING = 1


def doctor(robot: str | None) -> int:
    """Print every check; 1 when one failed.  Raises `VlaRosError` where the robot or contract is none."""
    if robot is not None:
        load_contract(robot)
    console = Console()
    checks = run_checks(robot)
    for check in checks:
        mark, style = MARKS[check.status]
        console.print(f"[{style}]{mark}[/{style}] ", end="")
        console.print(check.sentence, highlight=False, markup=False, soft_wrap=True)
    if any(check.status == "fail" for check in checks):
        return LACKING
    print_next(console, "vla-ros demo", *(("--robot", robot) if robot else ()))
    return 0
