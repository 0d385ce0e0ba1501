"""Everything that is watched of robot and driver while the controller runs: one finding a tick at most."""

from __future__ import annotations

from collections.abc import Sequence

from vla_ros.control.load import ContactMonitor, FrozenJoints
from vla_ros.control.monitor import MeasurementMonitor, Steadiness
from vla_ros.robots.kinematics import Kinematics
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, Intervention, InterventionAction, JointState, Reason

OUTSIDE = frozenset(
    {Reason.STALE_JOINT_STATE, Reason.WATCHDOG, Reason.DRIVER, Reason.CONTACT, Reason.CONTACT_UNWATCHED}
)
"""Reasons that do not follow from the joint states in a bag alone."""
FAULTS = frozenset(
    {
        Reason.STALE_JOINT_STATE,
        Reason.FROZEN_JOINT_STATE,
        Reason.JOINT_STATE_JUMP,
        Reason.DRIVER,
        Reason.FOREIGN_COMMANDS,
        Reason.INTERNAL,
    }
)
"""Reasons of stops that end in FAULT: something is broken that a reset alone does not mend."""

Finding = tuple[Intervention, str]
"""What was found, and one plain sentence."""


class Supervision:
    """The measured joints, touches, and what the driver says of itself."""

    def __init__(self, spec: RobotSpec, kinematics: Kinematics, period: float) -> None:
        """`period` is the tick [s]."""
        self._monitor = MeasurementMonitor(spec, period)
        self._contact = ContactMonitor(spec, kinematics)
        self._frozen = FrozenJoints(spec)
        self._steadiness = Steadiness(spec, period)
        self.driver = ""
        """What keeps the driver from following commands, one plain sentence; empty: nothing does."""
        self.unwatched = 0.0
        """How long the watchdog has been silent [s] when that is too long, else 0."""
        self.recorded: Finding | None = None
        """What a run that is gone through again found for a reason of `OUTSIDE`; None: nothing."""

    def clear(self) -> None:
        """Forget what was measured (activation, reset)."""
        self._monitor.clear()
        self._contact.clear()
        self._frozen.clear()
        self._steadiness.clear()

    def observe(self, states: Sequence[JointState]) -> None:
        """Every joint state that has come, in order."""
        for state in states:
            self._contact.observe(state)

    def feel(self, force: Array, time: float) -> None:
        """The newest force at the wrist (3,) [N], sensor frame, and when it came [s]."""
        self._contact.feel(force, time)

    def look(self, measured: JointState | None, age: float, commanded: Array, time: float) -> Finding | None:
        """What is wrong at `time` [s]; None: nothing is.  Other arguments as `MeasurementMonitor.look`."""
        self._steadiness.look(measured)
        if self.recorded is not None:
            return self.recorded
        if self.driver:
            return Intervention(InterventionAction.STOP, Reason.DRIVER, "driver"), self.driver
        finding = self._monitor.look(measured, age, commanded)
        if finding is None and measured is not None:
            finding = self._frozen.look(measured, commanded) or self._contact.finding
            blind = "" if finding else self._contact.unwatched(measured, age, time)
            if blind:
                hold = Intervention(InterventionAction.HOLD, Reason.CONTACT_UNWATCHED, "contact", age)
                return hold, blind
        if finding is None and self.unwatched > 0.0:
            lost = Intervention(InterventionAction.HOLD, Reason.WATCHDOG, "watchdog", self.unwatched)
            return lost, f"the watchdog has been silent for {self.unwatched:.2f} s"
        return finding

    def objection_to_start(self, measured: JointState, age: float, time: float) -> str:
        """Why motion must not begin at `time` [s] for what is felt; empty when it may.

        `age`: of the joint state [s].
        """
        return self._contact.objection_to_start(measured, age, time)

    def objection_to_reset(self, measured: JointState | None, age: float, time: float) -> str:
        """Why motion must not begin again at `time` [s]; empty: it may.  `age`: of the joint state [s]."""
        if measured is None or self._monitor.stale(age) or not self._monitor.resting(measured):
            return "reset needs fresh joint states of a robot at rest"
        if not self._steadiness.steady:
            # one false measurement would become the posture that motion begins from
            return "reset needs joint states that have stayed the same for 0.2 s"
        if self.driver:
            return f"reset needs a driver that follows commands: {self.driver}"
        felt = self.objection_to_start(measured, age, time)
        return f"no reset: {felt}" if felt else ""
