"""What the robot was told until all processes had ended, and doubles around a safety controller alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import yaml
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from benchmarks.faults.doubles import DEEP, Doubles
from benchmarks.faults.record import Recording, Setpoint
from vla_ros import msg
from vla_ros.bringup.graph import Process
from vla_ros.contract import load_contract
from vla_ros.nodes import topics
from vla_ros.robots import load_robot
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import SafetyState

ALONE = "ur5"


class Heard:
    """The setpoints of one run; `recording` is appended to by another thread."""

    def __init__(self, robot: RobotSpec, recording: Recording, close: Callable[[], None]) -> None:
        self.robot, self._recording, self.close = robot, recording, close

    def forget(self) -> None:
        """What was before does not count."""
        for heard in (self._recording.setpoints, self._recording.commands, self._recording.statuses):
            heard.clear()

    @property
    def speed(self) -> float:
        """Of the fastest joint in the newest setpoint [rad/s]; 0 before the first."""
        setpoints = self._recording.setpoints
        return float(np.abs(setpoints[-1].velocities).max()) if setpoints else 0.0

    @property
    def last_step(self) -> float:
        """How far the last command was from the one before [rad]; 0 where commands are not listened to."""
        steps = np.diff([command.positions for command in self._recording.commands[-2:]], axis=0)
        return float(np.abs(steps).max(initial=0.0))

    @property
    def tick(self) -> int:
        """Of the newest setpoint."""
        setpoints = self._recording.setpoints
        return int(setpoints[-1].tick) if setpoints else 0

    @property
    def state(self) -> int:
        """Of the controller, in the newest setpoint."""
        setpoints = self._recording.setpoints
        return int(setpoints[-1].state) if setpoints else int(SafetyState.IDLE)

    def wait(self, condition: Callable[[], bool], patience: float) -> bool:
        """Wait; whether it came true."""
        deadline = time.monotonic() + patience
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.001)
        return condition()

    def braking(self, since: float, rest: float) -> float:
        """Seconds after `since` to the first setpoint from which on all rest; nan: there is none."""
        resting = float("nan")
        for point in reversed(self._recording.setpoints):
            if np.abs(point.velocities).max() >= rest:
                break
            resting = point.at - since
        return resting

    def violations(self, since: float) -> int:
        """Of the limits, a little before `since` and from then on."""
        return len(self._recording.judge(self.robot, since - 0.3, foreign=True).violations)


class _Observer:
    """Setpoints and commands of a whole graph."""

    def __init__(self, robot: RobotSpec) -> None:
        self.recording = Recording()
        self._node = rclpy.create_node("ctrl_c_observer")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._node.create_subscription(msg.JointSetpoint, topics.JOINT_SETPOINT, self._on_setpoint, DEEP)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self._thread.join(timeout=2.0)
        self._node.destroy_node()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def _on_setpoint(self, message: Any) -> None:
        self.recording.setpoints.append(Setpoint.of(message))


def graph_observer(robot: str) -> Heard:
    """Listens to a whole graph."""
    spec = load_robot(robot)
    observer = _Observer(spec)
    return Heard(spec, observer.recording, observer.close)


def controller_bench(folder: Path) -> tuple[Heard, list[Process]]:
    """Doubles around a controller, and the processes to start: it, and who brings it up."""
    path = folder / "contract.yaml"
    path.write_text(yaml.safe_dump({"robot": ALONE}), encoding="utf-8")
    contract = load_contract(str(path), simulated=True)
    doubles = Doubles(contract, clock=False, stream=True)
    processes = [
        Process("safety_controller", {"contract": str(path), "simulated": True}),
        Process("lifecycle_manager", {"nodes": ["safety_controller"]}),
    ]
    return Heard(contract.robot, doubles.recording, doubles.close), processes
