"""The control thread: what comes and goes at every tick, around a `SafetyController`.

It alone touches the controller; callbacks hand requests over, which are carried out between two ticks.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from vla_ros import msg
from vla_ros.bounds import MAX_CHUNK_BYTES
from vla_ros.contract import Contract
from vla_ros.control.clocks import LoopClock, MonotonicClock, SimulatedClock
from vla_ros.control.controller import SafetyController, Tick
from vla_ros.control.loop import RealTimeLoop, set_priority
from vla_ros.control.stages import Stages
from vla_ros.errors import ActionError
from vla_ros.nodes import topics
from vla_ros.nodes.conversions import to_action_chunk
from vla_ros.nodes.driver_commands import ArmCommands, GripperCommands
from vla_ros.nodes.driver_link import DriverLink, Unchecked
from vla_ros.nodes.foreign_commands import ForeignCommands
from vla_ros.nodes.joint_input import JointInput
from vla_ros.nodes.polling import Polled, taken, unused
from vla_ros.nodes.safety_messages import SetpointMessage, StatusMessage
from vla_ros.nodes.watchdog_line import WatchdogLine
from vla_ros.robots.drivers.condition import DriverCondition
from vla_ros.types import NANOSECONDS, ActionChunk, JointState, Reason, SafetyState

LEAD = 0.35
"""Share of the period before a tick at which chunks are taken over."""
LATE_IN_A_ROW = 5
"""Late ticks in a row after which the robot is slowed down to rest."""
CLOCK_GAP, CLOCK_TRIES = 0.0002, 5
"""Seconds within which two clocks are read together, and how often that is tried."""
CLOCK_STEP = 1e-7
"""Seconds off the period from which on the journal says what time a tick has."""
STALL = 0.25
"""Seconds without a tick after which the robot has come to rest by itself: what was under way is stopped for
good; a robot that was at rest had nothing to stop."""
BRAKING = 3.0
"""Seconds the robot may take to come to rest before the loop ends all the same: several times the longest
stop of any robot here (0.45 s), for a machine that is late; `ros2 launch` sends SIGTERM after 5 s."""
AT_REST = 0.3
"""Seconds for which commands at rest are repeated before the process ends: what a late reader has not taken
by then is lost with the writer's memory."""
RESTING = (SafetyState.STOPPED, SafetyState.FAULT)
CALL_TIMEOUT = 1.0
"""Seconds a service waits for the control thread to carry a request out."""


class ControlThread:
    """Chunks, joint states and requests in; commands, setpoints and status out."""

    def __init__(
        self, node: Any, contract: Contract, period: float, check_driver: bool, watchdog_timeout: float,
        follow_clock: bool = False,
    ) -> None:  # fmt: skip
        """Build the controller and its topics.

        Args:
            node: what publishers and subscriptions belong to.
            contract: robot and blending.
            period: the tick [s].
            check_driver: whether only a driver that says it follows is commanded.
            watchdog_timeout: silence of a watchdog that was there once that is too long [s]; 0: never.
            follow_clock: tick on `/clock`, which a simulation gives, instead of on this machine's clock.

        Raises `ConfigurationError` and `MachineError`.
        """
        self._node, self._robot, self._period = node, contract.robot, period
        self.controller = SafetyController(contract, period)
        self.sentences: deque[str] = deque(maxlen=20)
        """What is to be said in the log."""
        self._arm, self._gripper = ArmCommands(node, self._robot), GripperCommands(node, self._robot)
        self._setpoint = SetpointMessage(node, self._robot.base_frame, self._robot.dof)
        self.status = StatusMessage(node, self._robot.base_frame)
        self._joints = JointInput(node, self._robot, self.sentences.append)
        self.foreign = ForeignCommands(node, self._arm)
        self.driver = DriverLink(node, self._robot, self.sentences.append) if check_driver else Unchecked()
        self._watchdog = WatchdogLine(node, watchdog_timeout)
        self._journal = node.create_publisher(String, topics.CONTROL_EVENTS, topics.JOURNAL)
        self.controller.journal = self._tell
        self._stage = Stages()
        self._simulated_time = _ClockTopic(node) if follow_clock else None
        self._time: LoopClock = MonotonicClock()
        self._lock = threading.Lock()
        self._requests: deque[tuple[Callable[[], Any], list[Any], threading.Event]] = deque()
        self.loop: RealTimeLoop | None = None
        """None while the node is not active."""
        self.objection = ""
        """Why the controller is not activated yet though the driver is ready; empty: nothing objects."""
        self.on_chunk: Callable[[], None] | None = None
        """Called on this thread when a chunk has been taken over."""

    def open(self, priority: int) -> None:
        """Start the loop; the first tick with a joint state anchors the controller there."""
        self._chunks = self._node.create_subscription(
            msg.ActionChunk, topics.ACTION_CHUNK, unused, topics.RELIABLE, callback_group=Polled(), raw=True
        )
        if self._simulated_time is not None:
            self._time = SimulatedClock(self._read_clock, self.sentences.append)
        self._since = self._time.now()
        self.anchored = False
        self.measured: JointState | None = None
        self._measured_at = self._ticked_at = 0.0
        self._under_way = False
        self._due, self._due_ros, self._due_moment = 0.0, 0, 0.0
        # what has waited in the queue is old; only the gripper's opening is taken from it
        self._joints.take()
        self._joints.take_force()
        self._cut = False
        self._condition: DriverCondition | None = None
        self.driver.open()
        self._watchdog.forget()
        self.loop = RealTimeLoop(
            self._period, self._tick, priority, self.sentences.append, self._submit, LEAD * self._period,
            self._time,
        )  # fmt: skip
        self.loop.start()
        if priority > 1:
            # the caller holds the interpreter now and then; preempted meanwhile it would stall the loop
            set_priority(priority - 1)

    def brake(self, why: str) -> bool:
        """Stop the motion within the limits and wait until the robot is told to rest; whether it was moved.

        It takes no other process: commands go on until they rest, whoever has ended before.
        """
        if self.loop is None or not self.anchored:
            return False
        deadline = time.monotonic() + (CALL_TIMEOUT if self._time.simulated else BRAKING)
        self.call(lambda: self.controller.emergency_stop(why))
        while self.controller.state not in RESTING and time.monotonic() < deadline:
            time.sleep(0.005)
        return True

    def close(self) -> None:
        """Stop the motion within the limits, then the loop."""
        self.brake("deactivated")
        self.end()
        self.driver.close()
        self.foreign.close()
        self._node.destroy_subscription(self._chunks)

    def end(self) -> None:
        """No thread may outlive the node, and the caller's is no longer real-time."""
        if self.loop is not None:
            self.loop.stop()
            self.loop = None
            set_priority(0)

    def destroy(self) -> None:
        """Give every topic and service back."""
        for part in (
            *(self._joints, self.driver, self._watchdog),
            *(self._arm, self._gripper, self._setpoint, self.status),
        ):
            part.destroy(self._node)
        self._node.destroy_publisher(self._journal)
        if self._simulated_time is not None:
            self._simulated_time.destroy(self._node)

    def call(self, request: Callable[[], Any]) -> Any:
        """Have `request` carried out between two ticks; None when it cannot."""
        if self.loop is None or not self.anchored:
            return None
        result: list[Any] = []
        done = threading.Event()
        with self._lock:
            self._requests.append((request, result, done))
        if not done.wait(CALL_TIMEOUT):
            return None
        return result[0] if result else (False, "the controller failed at it and stops; see the log")

    def moment(self) -> float:
        """The controller's time now [s]."""
        return self._time.now() - self._since

    def reset(self) -> tuple[bool, str]:
        """`SafetyController.reset` with what is measured; to be `call`ed."""
        age = self._time.now() - self._measured_at
        start = None if self.measured is None else self.driver.start(self.measured)
        done = self.controller.reset(start, self._joints.width, self.moment(), age)
        if done[0] and self._cut and start is not None:
            # the driver begins again exactly where the robot stands
            self.controller.activate(start, self._joints.width, self.moment())
            self._cut = False
        return done

    def _submit(self, due: float) -> None:
        """Take over what has come, before the tick is due: it costs as much as a tick and would delay it."""
        with self._stage("chunks were taken over"):
            chunks = self._new_chunks()
            if not self.anchored:
                return
            moment, now = self._schedule(due)
            for chunk in chunks:
                _, sentence = self.controller.submit(chunk, moment, now)
                if sentence:
                    self.sentences.append(sentence)
                elif self.on_chunk is not None:
                    self.on_chunk()

    def _schedule(self, due: float) -> tuple[float, int]:
        """Controller time [s] and ROS time [ns] of a tick, the same for its chunks and for itself.

        Time is summed up period by period, so that who goes through a recording does the same sums; where the
        schedule itself has moved, the journal says to what.
        """
        if due != self._due:
            moment, true = self._due_moment + self._period, due - self._since
            if abs(moment - true) > CLOCK_STEP:
                moment = true
                if self.anchored:
                    self._tell("clock", {"time": moment})
            self._due, self._due_ros, self._due_moment = due, self._ros_time(due), moment
        return self._due_moment, self._due_ros

    def _tell(self, event: str, values: dict[str, Any]) -> None:
        """One line of the journal: what was done by hand before the tick after `tick`."""
        # the controller is amid a change of its state: a journal that fails is a stop, but a tick later
        try:
            given = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
            line = {"event": event, "tick": self.controller.tick, **given}
            self._journal.publish(String(data=json.dumps(line)))
        except Exception as error:
            self._stage.failed("the journal was kept", error)

    def _ros_time(self, moment: float) -> int:
        """ROS time [ns] at a near moment of the loop's clock [s]."""
        if self._time.simulated:
            return round(moment * NANOSECONDS)
        for _ in range(CLOCK_TRIES):
            before = time.monotonic()
            now = self._node.now()
            if time.monotonic() - before < CLOCK_GAP:
                break
        # a thread held up between the two clocks would stamp a tick before the one before it
        return int(now + round((moment - before) * NANOSECONDS))

    def _tick(self, due: float) -> None:
        # the schedule's time, not the waking's: jitter of the clock must not shake the reference
        woken = self._time.now()
        with self._lock:
            requests = list(self._requests)
            self._requests.clear()
        self._take_in(due, woken)
        moment, now = self._due_moment, self._due_ros
        if not self.anchored:
            with self._stage("the controller was activated"):
                self._anchor(moment, woken)
            if not self.anchored:
                return
        for request, result, done in requests:
            with self._stage("a request was carried out"):
                result.append(request())
            done.set()
        self._look_at_the_clock(moment)
        self._latch_failure()
        with self._stage("a tick was computed"):
            tick = self.controller.update(moment, now, self.measured, woken - self._measured_at)
            self._under_way = self.controller.under_way(moment)
            self._send(tick)

    def _take_in(self, due: float, woken: float) -> None:
        """What has come since the last tick of the robot, its driver and the watchdog."""
        with self._stage("the clocks were read"):
            self._schedule(due)
        with self._stage("joint states were taken"):
            states = self._joints.take()
            if states:
                self.measured, self._measured_at = states[-1], woken
                self.controller.observe(states)
        with self._stage("forces were taken"):
            force = self._joints.take_force()
            if force is not None:
                self.controller.feel(force, self._due_moment)
        with self._stage("the driver was looked at"):
            self._condition = self.driver.condition()
            self.controller.supervision.driver = self._condition.sentence
        with self._stage("the watchdog was looked at"):
            self.controller.supervision.unwatched = self._watchdog.silence(time.monotonic())

    def _anchor(self, moment: float, woken: float) -> None:
        """Activate the controller where the robot is, once that is known, the driver follows and what is felt
        allows it.
        """
        if self.measured is None or self._condition is None or not self._condition.ready:
            return
        age = woken - self._measured_at
        self.objection = self.controller.supervision.objection_to_start(self.measured, age, moment)
        if self.objection:
            self.controller.message = self.objection
            return
        self.controller.activate(self.driver.start(self.measured), self._joints.width, moment)
        self.anchored, self._ticked_at = True, moment

    def _look_at_the_clock(self, moment: float) -> None:
        """A loop that stood still, or is late, cannot go on as if nothing were."""
        gap, self._ticked_at = moment - self._ticked_at, moment
        if gap > STALL:
            self._stood_still(gap, moment)
        if self.loop is not None and self.loop.late >= LATE_IN_A_ROW:
            with self._stage("the robot was slowed down"):
                self.controller.overrun(self.loop.late, moment)

    def _latch_failure(self) -> None:
        """Stop for what has been raised since the last tick, whatever it was."""
        failure = self._stage.take()
        if failure is None:
            return
        with self._stage("the controller was stopped"):
            self.sentences.append(failure)
            if self.controller.state < SafetyState.STOPPING:
                self.controller.stop(Reason.INTERNAL, "controller", failure)

    def _send(self, tick: Tick) -> None:
        """A tick's commands and what is told of it; one that fails does not keep the others back."""
        self._cut = self._cut or self._condition is None or not self._condition.ready
        with self._stage("the arm was commanded"):
            # a driver that comes back must not find the commands of before: it is silent until the reset
            if not self._cut:
                self._arm.send(tick.setpoint.positions)
        with self._stage("the gripper was commanded"):
            self._gripper.send(tick.gripper_target)
        with self._stage("the setpoint was published"):
            self._setpoint.publish(tick, self.controller.executor.sequence)
        with self._stage("the status was collected"):
            self.status.collect(tick)

    def _read_clock(self) -> float | None:
        with self._stage("the simulation's clock was read"):
            return None if self._simulated_time is None else self._simulated_time.read()
        return None

    def _stood_still(self, gap: float, moment: float) -> None:
        """No tick for `gap` [s]: a motion has ended by itself and waits for a person; at rest nothing has."""
        sentence = f"the control loop stood still for {gap:.2f} s"
        if self._under_way:
            self.controller.stop(Reason.OVERRUN, "loop", sentence)
        else:
            self.sentences.append(f"{sentence}, while the robot was at rest: it begins again slowly")
            self.controller.stalled_at_rest(gap, moment)

    def _new_chunks(self) -> list[ActionChunk]:
        """What has come since the last tick, taken here so that no executor stands between."""
        chunks = []
        for raw, _ in taken(self._chunks):
            if len(raw) > MAX_CHUNK_BYTES:
                self.sentences.append(
                    f"a chunk of {len(raw)} bytes was refused, allowed are {MAX_CHUNK_BYTES} bytes"
                )
                continue
            message = deserialize_message(raw, msg.ActionChunk)
            try:
                chunks.append(to_action_chunk(message))
            except ActionError as error:
                self.sentences.append(f"chunk {message.sequence} was refused: {error}")
        return chunks


class _ClockTopic:
    """`/clock`, read by whoever asks."""

    def __init__(self, node: Any) -> None:
        self._subscription = node.create_subscription(
            Clock, "/clock", unused, topics.SENSOR, callback_group=Polled()
        )

    def read(self) -> float | None:
        """The newest time that has come since the last call [s]."""
        newest = None
        for message, _ in taken(self._subscription):
            newest = message.clock.sec + message.clock.nanosec / NANOSECONDS
        return newest

    def destroy(self, node: Any) -> None:
        """Give the subscription back."""
        node.destroy_subscription(self._subscription)
