"""What the arm carries and how hard it may touch: payload and contact thresholds, read from YAML."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vla_ros.robots.fields import Fields
from vla_ros.types import Array


@dataclass(frozen=True)
class Payload:
    """A point mass fixed to the tool centre point's frame."""

    mass: float = 0.0
    """[kg]"""
    centre: Array = field(default_factory=lambda: np.zeros(3))
    """(3,) centre of mass in the frame of the tool centre point [m]."""


@dataclass(frozen=True)
class ContactSpec:
    """When a touch stops the robot.  What is None is not watched."""

    torque_per_effort: Array | None = None
    """(n,) Nm per unit of the driver's `JointState.effort`."""
    torque: Array | None = None
    """(n,) largest joint torque [Nm] beyond that of the modelled motion."""
    force: float | None = None
    """Largest change of the force at the wrist [N] since activation or reset."""
    seconds: float = 0.03
    """Time constant of the filter the torque or force is seen through."""
    age: float = 0.1
    """Oldest force, or joint state with efforts, by which contact still counts as watched [s]."""

    @property
    def watched(self) -> bool:
        """Whether any contact stops the robot."""
        return self.torque is not None or self.force is not None


def read_contact(fields: Fields, n: int) -> ContactSpec:
    """The section `contact` of the YAML of a robot of n joints.

    Keys, all optional: `torque_per_effort` and `torque` (together), `force`, `seconds`, `age` (0.02 to 1 s).

    Raises:
        ConfigurationError: with file, key and what is wrong.
    """
    scale = torque = force = None
    if "torque" in fields or "torque_per_effort" in fields:
        scale = fields.array("torque_per_effort", (n,), positive=True)
        torque = fields.array("torque", (n,), positive=True)
    if "force" in fields:
        force = fields.positive("force")
    seconds = fields.positive("seconds", 1.0) if "seconds" in fields else ContactSpec.seconds
    age = fields.number("age", 0.02, 1.0) if "age" in fields else ContactSpec.age
    fields.finish()
    return ContactSpec(scale, torque, force, seconds, age)


def read_payload(fields: Fields) -> Payload:
    """The section `payload` of a contract: `mass` [kg], 0 to 50, and, optional, `centre` [m].

    Raises:
        ConfigurationError: with file, key and what is wrong.
    """
    mass = fields.number("mass", 0.0, 50.0)
    centre = fields.array("centre", (3,)) if "centre" in fields else np.zeros(3)
    fields.finish()
    return Payload(mass, centre)


def payload_mapping(payload: Payload) -> dict[str, object]:
    """What `read_payload` reads back."""
    return {"mass": payload.mass, "centre": payload.centre.tolist()}
