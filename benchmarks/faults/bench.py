"""A live graph to break: real processes of the nodes under attack, doubles of what is around them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import yaml
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger
from vla_ros.srv import MoveToJoints

from benchmarks.circle import record_circle
from benchmarks.faults.doubles import RADIUS, TURN, Doubles
from benchmarks.faults.processes import Processes
from vla_ros.bringup.domain import claimed_domain
from vla_ros.bringup.graph import Process
from vla_ros.contract import load_contract
from vla_ros.errors import MachineError

ROBOT = "ur5"
POLICY_RATE = 10.0
CAMERA = {"width": 160, "height": 120, "rate": 15.0}
START_TIMEOUT = 60.0
LATCHED = ("STOPPING", "STOPPED", "FAULT")
INSTRUCTION = "follow the recording"
_BEFORE = {
    Transition.TRANSITION_CONFIGURE: (State.PRIMARY_STATE_UNCONFIGURED,),
    Transition.TRANSITION_ACTIVATE: (State.PRIMARY_STATE_INACTIVE,),
}
"""Where a node is that a transition has not reached."""
CHAIN = ("ingester", "inference", "chunker", "safety_controller")


class MoodyInference(Process):
    """`inference` with a policy that can be told to be slow or to hang."""

    @property
    def module(self) -> str:
        """Module of this package."""
        return "benchmarks.faults.moody_inference"


@dataclass(frozen=True)
class Kind:
    """Which nodes are real."""

    managed: tuple[str, ...]
    clock: bool = False
    """Whether ROS time is simulated, so that it can jump."""

    @property
    def chain(self) -> bool:
        """Whether chunks come from a policy, not from the bench."""
        return "inference" in self.managed


KINDS = {
    "control": Kind(("safety_controller",)),
    "clock": Kind(("safety_controller",), clock=True),
    "chain": Kind(CHAIN),
}


class Bench:
    """One live graph, moving."""

    def __init__(self, kind: Kind, folder: Path, domain: int) -> None:
        """Start it; raises `MachineError` when it does not come up."""
        self.kind, self.domain = kind, domain
        path = _write_contract(folder)
        self.mood = folder / "mood"
        self.contract = load_contract(str(path), simulated=True)
        self.processes = Processes(folder)
        self.doubles = Doubles(self.contract, kind.clock, stream=not kind.chain)
        self.recording = self.doubles.recording
        self.rivals: list[Any] = []
        """Publishers that do not belong on the command topic, and their timers."""
        try:
            self._start(path)
        except BaseException:
            self.close()
            raise

    def _start(self, path: Path) -> None:
        kind = self.kind
        told = {"contract": str(path), "simulated": True, "use_sim_time": kind.clock}
        for name in (*kind.managed, "watchdog"):
            if name == "inference":
                self.processes.start(MoodyInference(name, {**told, "policy_rate": POLICY_RATE}))
            else:
                self.processes.start(
                    Process(name, {"use_sim_time": kind.clock} if name == "watchdog" else told)
                )
        self.bring_up(*kind.managed)
        if kind.chain:
            self.doubles.instruct(INSTRUCTION)

    def close(self) -> None:
        """End it."""
        self.processes.close()
        self.doubles.close()

    # What a person or the lifecycle manager does.

    def bring_up(self, *names: str) -> None:
        """Configure, then activate nodes.  Raises `MachineError`."""
        for goal, transition in (
            (State.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_CONFIGURE),
            (State.PRIMARY_STATE_ACTIVE, Transition.TRANSITION_ACTIVATE),
        ):
            asked = [
                (
                    name,
                    goal,
                    transition,
                    self.doubles.node.create_client(ChangeState, f"/{name}/change_state"),
                )
                for name in names
            ]
            pending = [self._begin(client, transition) for _, _, _, client in asked]
            for (name, wanted, step, client), future in zip(asked, pending, strict=True):
                self._finish(name, wanted, step, client, future)

    def _begin(self, client: Any, transition: int) -> Any:
        if not self.until(client.service_is_ready, START_TIMEOUT):
            raise MachineError(f"{client.srv_name} is not offered within {START_TIMEOUT:g} s.")
        return client.call_async(ChangeState.Request(transition=Transition(id=transition)))

    def _finish(self, name: str, goal: int, transition: int, client: Any, future: Any) -> None:
        """Wait for a transition; ask where the node is when its answer got lost."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self.until(future.done, 2.0) and future.result().success:
                return
            state = self.call(GetState, f"/{name}/get_state", GetState.Request(), 2.0)
            if state is not None and state.current_state.id == goal:
                return
            if state is not None and state.current_state.id in _BEFORE[transition]:
                # the request went to the process that was killed, or was refused
                future = self._begin(client, transition)
        raise MachineError(f"Node '{name}' does not come up.")

    def call(self, kind: Any, name: str, request: Any, patience: float = 5.0) -> Any:
        """A service's answer; None when there is none in time."""
        client = self.doubles.node.create_client(kind, name)
        try:
            if not self.until(client.service_is_ready, patience):
                return None
            future = client.call_async(request)
            return future.result() if self.until(future.done, patience) else None
        finally:
            self.doubles.do(lambda: self.doubles.node.destroy_client(client))

    def ask(self, name: str) -> bool:
        """Call a Trigger of the safety controller; whether it agreed."""
        answer = self.call(Trigger, f"/safety_controller/{name}", Trigger.Request())
        return answer is not None and bool(answer.success)

    def go_home(self) -> None:
        """Back to the middle: a motion of deltas drifts with every answer that is missing."""
        self.doubles.instruct("")
        answer = None
        deadline = time.monotonic() + 10.0
        while (answer is None or not answer.success) and time.monotonic() < deadline:
            answer = self.call(MoveToJoints, "/safety_controller/move_to_joints", MoveToJoints.Request())
            self.until(lambda: False, 0.2)
        self.until(lambda: self.resting(0.5), 10.0)
        self.doubles.instruct(INSTRUCTION)

    # What is seen.

    def until(self, condition: Callable[[], bool], patience: float) -> bool:
        """Wait; whether it came true."""
        deadline = time.monotonic() + patience
        while not condition():
            self.doubles.check()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def moving(self, seconds: float = 0.3) -> bool:
        """Whether most of the newest commands of so many seconds moved the robot."""
        now = time.monotonic()
        recent = [c for c in self.recording.commands[-1000:] if c.at > now - seconds]
        if len(recent) < 5 or self.recording.state() not in ("RUNNING", "LIMITED"):
            return False
        steps = np.abs(np.diff([c.positions for c in recent], axis=0)).max(axis=1)
        return bool(np.mean(steps > 1e-6) > 0.5)

    def resting(self, seconds: float, since: float = 0.0, foreign: bool = False) -> bool:
        """Whether no command has moved the robot for so long, nor since `since`."""
        now = time.monotonic()
        begin = max(now - seconds - 1.0, since)
        return now - max(self.recording.last_motion(begin, foreign), since) > seconds

    @property
    def state(self) -> str:
        """The controller's state now, GONE when it is silent."""
        return self.recording.state()

    @property
    def period(self) -> float:
        """Of the controller [s]."""
        return 1.0 / self.contract.control_rate


@contextmanager
def live_bench(kind: str) -> Iterator[Bench]:
    """A bench in a ROS domain of its own.  Raises `MachineError`."""
    with tempfile.TemporaryDirectory(prefix="vla_ros_faults_") as folder, claimed_domain() as domain:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        bench = None
        try:
            bench = Bench(KINDS[kind], Path(folder), domain)
            yield bench
        finally:
            if bench is not None:
                bench.close()
            rclpy.try_shutdown()


def _write_contract(folder: Path) -> Path:
    """A recording of circles that lasts for ten minutes, and the contract that replays it."""
    recording, path = folder / "recording.npz", folder / "contract.yaml"
    record_circle(recording, 600, POLICY_RATE, RADIUS, TURN)
    content = {
        "robot": ROBOT,
        "policy": "replay",
        "policy_options": {"path": str(recording)},
        "action_space": "delta_tcp",
        "action_rate": POLICY_RATE,
        "cameras": {"primary": CAMERA},
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path
