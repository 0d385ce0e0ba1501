"""The faults, and what may follow each.

Bounds are on commands.  The commanded circle moves the joints at 0.3 rad/s at most; a stop from there takes
0.2 s, a planned rest 0.25 s and more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from std_srvs.srv import Trigger

from benchmarks.faults.bench import Bench
from benchmarks.faults.fault import BY_ITSELF, RESET, RESTART, RESTART_RESET, Fault
from benchmarks.faults.ur_status import UrStatus
from vla_ros.robots.drivers.ur import SafetyMode
from vla_ros.types import NANOSECONDS

RUNS = ("RUNNING", "LIMITED")
STOPPED = ("STOPPED", "FAULT")
HOLDING = ("HOLDING",)
RNG_SEED = 7


def _set(attribute: str, replacement: Any) -> Callable[[Bench], None]:
    """Replace one of the doubles' filters."""
    return lambda bench: setattr(bench.doubles, attribute, replacement)


def _whole(attribute: str) -> Callable[[Bench], None]:
    return _set(attribute, lambda given: given)


JOINTS_WHOLE, CHUNKS_WHOLE, FRAMES_WHOLE = map(_whole, ("joint_filter", "chunk_filter", "frame_filter"))


def _nothing_comes(given: Any) -> list[Any]:
    return []


def _no_frame(given: Any) -> None:
    return None


def _freeze_joints(bench: Bench) -> None:
    kept: list[Any] = []

    def frozen(states: list[Any]) -> list[Any]:
        kept.extend(states[: 1 - len(kept)])
        for state in states:
            state.position, state.velocity = kept[0].position, kept[0].velocity
        return states

    bench.doubles.joint_filter = frozen


def _jump_joints(bench: Bench) -> None:
    def jumped(states: list[Any]) -> list[Any]:
        for state in states:
            state.position[1] += 0.12
        return states

    bench.doubles.joint_filter = jumped


def _not_finite(chunks: list[Any]) -> list[Any]:
    for chunk in chunks:
        chunk.poses[-1].position.x = float("nan")
    return chunks


def _sometimes(share: float) -> Callable[[list[Any]], list[Any]]:
    """Loses a share of what it is given."""
    random = np.random.default_rng(RNG_SEED)
    return lambda given: [one for one in given if random.random() >= share]


def _thrice(given: list[Any]) -> list[Any]:
    return [one for one in given for _ in range(3)]


def _reordered() -> Callable[[list[Any]], list[Any]]:
    """Every other message comes after the one that follows it."""
    kept: list[Any] = []

    def swap(given: list[Any]) -> list[Any]:
        kept.extend(given)
        if len(kept) < 2:
            return []
        out = kept[::-1]
        kept.clear()
        return out

    return swap


def _joints_pause(bench: Bench) -> None:
    bench.doubles.joint_filter = _nothing_comes
    time.sleep(0.25)
    JOINTS_WHOLE(bench)


def _storm(bench: Bench) -> None:
    """A hundred emergency stops, and resets between them, as fast as they can be asked for."""
    node = bench.doubles.node
    stop = node.create_client(Trigger, "/safety_controller/emergency_stop")
    reset = node.create_client(Trigger, "/safety_controller/reset")
    bench.until(lambda: bool(stop.service_is_ready() and reset.service_is_ready()), 10.0)
    futures = []
    for k in range(100):
        futures.append((reset if k % 10 == 5 else stop).call_async(Trigger.Request()))
        time.sleep(0.005)
    futures.append(stop.call_async(Trigger.Request()))
    bench.until(futures[-1].done, 10.0)
    bench.doubles.do(lambda: [node.destroy_client(client) for client in (stop, reset)])


def _second_publisher(bench: Bench) -> None:
    """Somebody else commands positions near those of the robot, at 20 Hz."""
    driver, node = bench.contract.robot.driver, bench.doubles.node
    rival = node.create_publisher(bench.doubles.command_type, driver.command_topic, 1)

    def nudge() -> None:
        positions = bench.recording.setpoints[-1].positions + 0.001
        rival.publish(bench.doubles.command_type(data=positions.tolist()))

    bench.rivals = [(rival, node.create_timer(0.05, nudge))]


def _no_second_publisher(bench: Bench) -> None:
    node = bench.doubles.node
    for rival, timer in bench.rivals:
        bench.doubles.do(partial(node.destroy_timer, timer))
        bench.doubles.do(partial(node.destroy_publisher, rival))
    bench.rivals = []
    bench.until(lambda: False, 0.5)


def _driver(bad: Callable[[UrStatus], None]) -> Callable[[Bench], None]:
    """Have the UR driver say something else."""
    return lambda bench: bad(bench.doubles.status)


def _jump_clock(seconds: float) -> Callable[[Bench], None]:
    def jump(bench: Bench) -> None:
        bench.doubles.clock_offset += int(seconds * NANOSECONDS)

    return jump


def _kill(name: str) -> Callable[[Bench], None]:
    return lambda bench: bench.processes.kill(name)


def _restart(name: str) -> Callable[[Bench], None]:
    def again(bench: Bench) -> None:
        bench.processes.restart(name)
        if name != "watchdog":
            bench.bring_up(name)

    return again


def _freeze(name: str, seconds: float = 0.0) -> Callable[[Bench], None]:
    """SIGSTOP; with `seconds`, SIGCONT after them."""

    def freeze(bench: Bench) -> None:
        bench.processes.freeze(name)
        if seconds:
            time.sleep(seconds)
            bench.processes.thaw(name)

    return freeze


def _thaw(name: str) -> Callable[[Bench], None]:
    return lambda bench: bench.processes.thaw(name)


def _mood(text: str) -> Callable[[Bench], None]:
    return lambda bench: bench.mood.write_text(text) and None


def _good_mood(bench: Bench) -> None:
    bench.mood.unlink()


def _frozen_picture() -> Callable[[bytearray], bytearray]:
    kept: list[bytearray] = []

    def same(frame: bytearray) -> bytearray:
        kept.extend([frame][: 1 - len(kept)])
        return kept[0]

    return same


def _black(frame: bytearray) -> bytearray:
    # the header stays, the picture is the end of the message
    black = bytearray(frame)
    size = CAMERA_BYTES
    black[-size:] = bytes(size)
    return black


CAMERA_BYTES = 160 * 120 * 3


def _burn(bench: Bench) -> None:
    bench.processes.burn(2 * (os.cpu_count() or 1))


def _cool(bench: Bench) -> None:
    bench.processes.cool()


FAULTS: tuple[Fault, ...] = (
    # What the driver says.
    Fault(
        "joints_off", "joint states end", "control", _set("joint_filter", _nothing_comes),
        STOPPED, 1.0, 0.3, (RESET,), JOINTS_WHOLE,
    ),
    Fault(
        "joints_pause", "no joint states for 0.25 s", "control", _joints_pause,
        (*HOLDING, *RUNS), 3.0, 1.0, (BY_ITSELF,), goes_on=True,
    ),
    Fault(
        "joints_frozen", "joint states repeat the same positions", "control", _freeze_joints,
        STOPPED, 3.0, 0.6, (RESET,), JOINTS_WHOLE,
    ),
    Fault(
        "joints_jump", "a measured joint jumps by 0.12 rad", "control", _jump_joints,
        STOPPED, 0.6, 0.2, (RESET,), JOINTS_WHOLE,
    ),
    Fault(
        "joints_lossy", "half of the joint states are lost", "control",
        _set("joint_filter", _sometimes(0.5)),
        RUNS, 2.0, 1.5, (BY_ITSELF,), JOINTS_WHOLE, goes_on=True, quick=False,
    ),
    Fault(
        "joints_doubled", "every joint state comes three times", "control", _set("joint_filter", _thrice),
        RUNS, 2.0, 1.5, (BY_ITSELF,), JOINTS_WHOLE, goes_on=True, quick=False,
    ),
    # What the chunks do.
    Fault(
        "chunks_end", "chunks end", "control", _set("chunk_filter", _nothing_comes),
        HOLDING, 1.6, 0.8, (BY_ITSELF,), CHUNKS_WHOLE,
    ),
    Fault(
        "chunks_lossy", "half of the chunks are lost", "control", _set("chunk_filter", _sometimes(0.5)),
        (*RUNS, *HOLDING), 3.0, 2.0, (BY_ITSELF,), CHUNKS_WHOLE, goes_on=True, quick=False,
    ),
    Fault(
        "chunks_doubled", "every chunk comes three times", "control", _set("chunk_filter", _thrice),
        RUNS, 2.0, 1.5, (BY_ITSELF,), CHUNKS_WHOLE, goes_on=True,
    ),
    Fault(
        "chunks_reordered", "every other chunk overtakes the one before", "control",
        lambda bench: setattr(bench.doubles, "chunk_filter", _reordered()),
        RUNS, 2.0, 1.5, (BY_ITSELF,), CHUNKS_WHOLE, goes_on=True,
    ),
    Fault(
        "chunk_nan", "a chunk holds a value that is not finite", "control",
        _set("chunk_filter", _not_finite),
        STOPPED, 0.6, 0.2, (RESET,), CHUNKS_WHOLE, quick=False,
    ),
    # What people and other nodes do.
    Fault(
        "stop_storm", "a hundred emergency stops and resets within 0.5 s", "control", _storm,
        STOPPED, 1.2, 0.4, (RESET,),
    ),
    Fault(
        "second_publisher", "another node publishes joint commands", "control", _second_publisher,
        STOPPED, 1.0, 0.4, (RESET,), _no_second_publisher, foreign=True,
    ),
    # The driver's mode.
    Fault(
        "protective_stop", "the UR makes a protective stop", "control",
        _driver(lambda ur: ur.safety(SafetyMode.PROTECTIVE_STOP)),
        STOPPED, 0.3, 0.1, (RESET,), _driver(lambda ur: ur.safety(SafetyMode.NORMAL)),
    ),
    Fault(
        "program_ends", "the UR's program ends", "control", _driver(lambda ur: ur.program(False)),
        STOPPED, 0.3, 0.1, (RESET,), _driver(lambda ur: ur.program(True)), quick=False,
    ),
    Fault(
        "wrong_controller", "the driver's position controller is not active", "control",
        _driver(lambda ur: ur.controller("inactive")),
        STOPPED, 0.3, 0.1, (RESET,), _driver(lambda ur: ur.controller("active")),
    ),
    Fault(
        "speed_slider", "somebody turns the UR's speed down to 50 %", "control",
        _driver(lambda ur: ur.speed(0.5)),
        STOPPED, 0.3, 0.1, (RESET,), _driver(lambda ur: ur.speed(1.0)), quick=False,
    ),
    # Processes of the safety side.
    Fault(
        "controller_killed", "safety_controller: kill -9", "control", _kill("safety_controller"),
        ("GONE",), 0.1, 0.05, (RESTART_RESET,), _restart("safety_controller"),
    ),
    Fault(
        "controller_frozen", "safety_controller: SIGSTOP for 0.8 s", "control",
        _freeze("safety_controller", 0.8),
        STOPPED, 2.0, 0.4, (RESET,),
    ),
    Fault(
        "watchdog_killed", "watchdog: kill -9", "control", _kill("watchdog"),
        HOLDING, 2.2, 0.8, (RESTART,), _restart("watchdog"),
    ),
    Fault(
        "watchdog_frozen", "watchdog: SIGSTOP for 0.9 s", "control", _freeze("watchdog", 0.9),
        (*RUNS, *HOLDING), 2.0, 1.5, (BY_ITSELF,), goes_on=True,
    ),
    Fault(
        "cpu_control", "every core busy twice over, controller and watchdog alone", "control", _burn,
        (*RUNS, *HOLDING, *STOPPED), 3.0, 2.0, (BY_ITSELF, RESET), _cool, goes_on=True, quick=False,
    ),
    # The clock.
    Fault(
        "clock_forward", "ROS time jumps 5 s forward", "clock", _jump_clock(5.0),
        (*RUNS, *HOLDING, *STOPPED), 3.0, 1.5, (BY_ITSELF, RESET), goes_on=True,
    ),
    Fault(
        "clock_back", "ROS time jumps 5 s back", "clock", _jump_clock(-5.0),
        (*HOLDING, *STOPPED, *RUNS), 3.0, 1.5, (BY_ITSELF, RESET), goes_on=True,
    ),
    # The policy.
    Fault(
        "policy_hung", "the policy hangs in an answer", "chain", _mood("3600"),
        HOLDING, 3.0, 0.9, (BY_ITSELF,), _good_mood,
    ),
    Fault(
        "policy_slow", "every answer takes 0.6 s", "chain", _mood("0.6"),
        (*RUNS, *HOLDING), 3.0, 2.0, (BY_ITSELF,), _good_mood, goes_on=True, quick=False,
    ),
    Fault(
        "inference_killed", "inference: kill -9", "chain", _kill("inference"),
        HOLDING, 1.5, 0.5, (RESTART,), _restart("inference"),
    ),
    Fault(
        "inference_frozen", "inference: SIGSTOP", "chain", _freeze("inference"),
        HOLDING, 1.5, 0.5, (BY_ITSELF,), _thaw("inference"),
    ),
    # The cameras.
    Fault(
        "camera_off", "the camera ends", "chain", _set("frame_filter", _no_frame),
        HOLDING, 2.5, 0.9, (BY_ITSELF,), FRAMES_WHOLE,
    ),
    Fault(
        "camera_frozen", "the camera repeats the same picture", "chain",
        lambda bench: setattr(bench.doubles, "frame_filter", _frozen_picture()),
        HOLDING, 4.0, 1.6, (BY_ITSELF,), FRAMES_WHOLE, quick=False,
    ),
    Fault(
        "camera_black", "the camera's pictures are black", "chain", _set("frame_filter", _black),
        HOLDING, 2.5, 0.9, (BY_ITSELF,), FRAMES_WHOLE,
    ),
    # The other nodes.
    Fault(
        "ingester_killed", "ingester: kill -9", "chain", _kill("ingester"),
        HOLDING, 2.5, 0.9, (RESTART,), _restart("ingester"), quick=False,
    ),
    Fault(
        "ingester_frozen", "ingester: SIGSTOP", "chain", _freeze("ingester"),
        HOLDING, 2.5, 0.9, (BY_ITSELF,), _thaw("ingester"), quick=False,
    ),
    Fault(
        "chunker_killed", "chunker: kill -9", "chain", _kill("chunker"),
        HOLDING, 2.5, 0.9, (RESTART,), _restart("chunker"),
    ),
    Fault(
        "chunker_frozen", "chunker: SIGSTOP", "chain", _freeze("chunker"),
        HOLDING, 2.5, 0.9, (BY_ITSELF,), _thaw("chunker"), quick=False,
    ),
    Fault(
        "cpu_chain", "every core busy twice over, all nodes", "chain", _burn,
        (*RUNS, *HOLDING, *STOPPED), 3.0, 2.0, (BY_ITSELF, RESET), _cool, goes_on=True, quick=False,
    ),
)  # fmt: skip
