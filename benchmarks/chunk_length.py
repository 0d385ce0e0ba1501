"""What a chunk costs the control thread, by its steps: `python -m benchmarks.chunk_length --json F`.

Planning must take time proportional to the steps.  One controller of a UR5 gets a chunk every 0.2 s while it
moves; what is timed is `SafetyController.submit`, and apart from it the unpacking of the message and the
curve through the targets, which is a part of it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import machine
from benchmarks.figures import summary
from vla_ros.bounds import MAX_SECONDS, MAX_STEPS
from vla_ros.commands.shared import plain_errors
from vla_ros.contract import BLENDINGS, load_contract
from vla_ros.control.controller import SafetyController
from vla_ros.execution.spline import CurveState, QuinticSpline
from vla_ros.types import NANOSECONDS, ActionChunk, ActionKind, JointState

STEPS = (1, 4, 16, 32, 64, 128, MAX_STEPS)
PERIOD = MAX_SECONDS / MAX_STEPS
"""Of a chunk [s]: the longest that may have the most steps."""
EVERY, AGE = 0.2, 0.1
"""Seconds between two chunks, and from a chunk's stamp to its arrival."""


def submit_times(blending: str, steps: int, count: int) -> list[float]:
    """Seconds of each of `count` chunks."""
    contract = load_contract("ur5", simulated=True, blending=blending)
    tick = 1.0 / contract.control_rate
    controller = SafetyController(contract, tick)
    home, still = np.array(contract.robot.home), np.zeros(contract.robot.dof)
    controller.activate(JointState(0, home, still, np.zeros(0)), contract.robot.gripper.max_width, 0.0)
    found: list[float] = []
    number, moment, stamp, sequence = 0, 0.0, NANOSECONDS, 0
    measured = JointState(stamp, home, still, np.zeros(0))
    while len(found) < count:
        if number * tick >= EVERY * (sequence + 1):
            sequence += 1
            way = np.zeros((steps, 3))
            way[:, 1] = 0.02 * np.sin(0.3 * (sequence + np.arange(steps))) * PERIOD
            chunk = ActionChunk(
                stamp - round(AGE * NANOSECONDS), sequence, ActionKind.CARTESIAN_DELTA, PERIOD,
                np.full(steps, contract.robot.gripper.max_width), translation=way,
                quaternion=np.tile([0.0, 0.0, 0.0, 1.0], (steps, 1)),
            )  # fmt: skip
            begun = time.perf_counter()
            _, refusal = controller.submit(chunk, moment, stamp)
            found.append(time.perf_counter() - begun)
            if refusal and steps > 1:  # one step of 78 ms that is 100 ms old is due
                raise RuntimeError(refusal)
        setpoint = controller.update(moment, stamp, measured, 0.0).setpoint
        number, moment, stamp = number + 1, moment + tick, stamp + round(tick * NANOSECONDS)
        measured = JointState(stamp, setpoint.positions, still, np.zeros(0))
    return found


def curve_times(steps: int, count: int) -> list[float]:
    """Seconds of each of `count` curves through so many waypoints."""
    rng = np.random.default_rng(steps)
    points, times = rng.normal(0.0, 0.1, (steps, 6)), 0.2 * np.arange(1, steps + 1)
    start = CurveState(np.zeros(6), np.zeros(6), np.zeros(6))
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        QuinticSpline(0.0, start, times, points)
        found.append(time.perf_counter() - begun)
    return found


def message_times(steps: int, count: int) -> list[float]:
    """Seconds to unpack each of `count` serialised chunks, as the control thread does."""
    from rclpy.serialization import deserialize_message, serialize_message

    from vla_ros import msg
    from vla_ros.nodes.conversions import action_chunk_message, to_action_chunk

    chunk = ActionChunk(
        NANOSECONDS, 1, ActionKind.CARTESIAN_DELTA, PERIOD, np.zeros(steps), translation=np.zeros((steps, 3)),
        quaternion=np.tile([0.0, 0.0, 0.0, 1.0], (steps, 1)),
    )  # fmt: skip
    raw, found = serialize_message(action_chunk_message(chunk, "base")), []
    for _ in range(count):
        begun = time.perf_counter()
        to_action_chunk(deserialize_message(raw, msg.ActionChunk))
        found.append(time.perf_counter() - begun)
    return found


@plain_errors
def main(
    count: Annotated[int, typer.Option(min=10, help="Chunks of each length.")] = 60,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
) -> None:
    """Time chunks of every length, for every blending."""
    document: dict[str, Any] = {"benchmark": "chunk_length", **machine.describe(), "rows": []}
    alone = {"message": message_times, "curve": curve_times}
    for what in (*alone, *BLENDINGS):
        for steps in STEPS:
            timed = alone.get(what)
            found = timed(steps, 10 * count) if timed else submit_times(what, steps, count)
            row = {"what": what, "steps": steps, **summary(1e3 * np.array(found))}
            document["rows"].append(row)
            print(f"{what}, {steps} steps: {row['p50']:.3f} ms, {row['p99']:.3f} ms in 99 %", flush=True)
    if json_path is not None:
        machine.write_json(json_path, document)


if __name__ == "__main__":
    typer.run(main)
