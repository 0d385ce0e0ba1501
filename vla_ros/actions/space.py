"""Action spaces: what the numbers of a policy mean, stated once and checked before anything moves."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vla_ros.actions.gripper import GripperConvention
from vla_ros.errors import ContractError, unknown
from vla_ros.types import ActionKind, Composition


@dataclass(frozen=True)
class ActionSpace:
    """Meaning of one action vector."""

    name: str
    title: str
    dimensions: tuple[str, ...]
    units: tuple[str, ...]
    kind: ActionKind
    composition: Composition
    rate: float
    """Control rate of the data [Hz]; step k is due (k + 1) / rate after the observation."""
    gripper: GripperConvention
    translation_scale: float = 1.0
    """Metres per unit of the translation dimensions."""
    rotation_scale: float = 1.0
    """Radians per unit of the rotation dimensions (extrinsic xyz Euler angles, base axes)."""
    unit_clip: float | None = None
    """Clip of the raw values before scaling."""
    step_translation: float | None = None
    """Per-component clip of a step's translation [m]."""
    step_rotation: float | None = None
    """Per-component clip of a step's rotation [rad]."""
    source: str = ""

    @property
    def dimension(self) -> int:
        """Length of an action vector."""
        return len(self.dimensions)

    @property
    def period(self) -> float:
        """Seconds between steps."""
        return 1.0 / self.rate


_TCP = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
_TCP_UNITS = ("m", "m", "m", "rad", "rad", "rad", "1")
_OPEN_ONE = GripperConvention(open_value=1.0, closed_value=0.0)

_PRESETS = {
    space.name: space
    for space in (
        ActionSpace(
            "delta_tcp",
            "vla_ros's own: base-frame delta of the tool centre point, absolute gripper (1 open)",
            _TCP, _TCP_UNITS, ActionKind.CARTESIAN_DELTA, Composition.PREVIOUS_TARGET, 5.0, _OPEN_ONE,
            step_translation=0.05, step_rotation=0.25,
            source="bridge without binarised gripper",
        ),
        ActionSpace(
            "bridge",
            "BridgeData V2: base-frame delta composed on the previous target, gripper 1 open",
            _TCP, _TCP_UNITS, ActionKind.CARTESIAN_DELTA, Composition.PREVIOUS_TARGET, 5.0,
            GripperConvention(open_value=1.0, closed_value=0.0, binarize=True),
            step_translation=0.05, step_rotation=0.25,
            source="rail-berkeley/bridge_data_robot: move_duration 0.2 s, env clip 0.05 m and 0.25 rad",
        ),
        ActionSpace(
            "droid",
            "DROID: base-frame velocity in [-1, 1], composed on the measured pose, gripper 1 closed",
            _TCP, ("0.075 m", "0.075 m", "0.075 m", "0.15 rad", "0.15 rad", "0.15 rad", "1"),
            ActionKind.CARTESIAN_DELTA, Composition.MEASURED, 15.0,
            GripperConvention(open_value=0.0, closed_value=1.0),
            translation_scale=0.075, rotation_scale=0.15, unit_clip=1.0,
            step_translation=0.075, step_rotation=0.15,
            source="droid-dataset/droid: control_hz 15, 0.075 m and 0.15 rad a step",
        ),
        ActionSpace(
            "fractal",
            "RT-1 fractal: base-frame delta, relative gripper (+1 closes, -1 opens)",
            _TCP, _TCP_UNITS, ActionKind.CARTESIAN_DELTA, Composition.PREVIOUS_TARGET, 3.0,
            GripperConvention(open_value=-1.0, closed_value=1.0, relative=True),
            step_translation=0.15, step_rotation=0.5,
            source="open_x_embodiment fractal20220817_data; the rate of 3 Hz is from memory",
        ),
        ActionSpace(
            "fractal_sticky",
            "RT-1 fractal as SimplerEnv plays it: a gripper command is kept for 15 steps",
            _TCP, _TCP_UNITS, ActionKind.CARTESIAN_DELTA, Composition.PREVIOUS_TARGET, 3.0,
            GripperConvention(open_value=-1.0, closed_value=1.0, relative=True, sticky=15),
            step_translation=0.15, step_rotation=0.5,
            source="SimplerEnv, policies of the Google robot: sticky_gripper_num_repeat 15",
        ),
        ActionSpace(
            "taco_play",
            "Taco Play rel_actions_world: base-frame delta, gripper -1 open, +1 closed",
            _TCP, _TCP_UNITS, ActionKind.CARTESIAN_DELTA, Composition.PREVIOUS_TARGET, 15.0,
            GripperConvention(open_value=-1.0, closed_value=1.0, binarize=True),
            step_translation=0.05, step_rotation=0.25,
            source="TFDS taco_play; sources contradict each other on the gripper's sign: check the data",
        ),
        ActionSpace(
            "absolute_tcp",
            "absolute pose of the tool centre point in the base frame, gripper 1 open",
            _TCP, _TCP_UNITS, ActionKind.CARTESIAN_ABSOLUTE, Composition.PREVIOUS_TARGET, 5.0, _OPEN_ONE,
            source="vla_ros",
        ),
    )
}  # fmt: skip

JOINT_POSITION = "joint_position"


def action_space_names() -> list[str]:
    """Names `get_action_space` knows."""
    return [*_PRESETS, JOINT_POSITION]


def get_action_space(name: str, dof: int | None = None, rate: float | None = None) -> ActionSpace:
    """The named preset; `joint_position` needs the number of arm joints, `rate` [Hz] replaces the preset's.

    Raises `ContractError` for an unknown name.
    """
    if name == JOINT_POSITION:
        if not dof:
            raise ContractError("action space joint_position needs the number of arm joints")
        space = ActionSpace(
            JOINT_POSITION,
            "absolute joint positions, gripper 1 open",
            (*(f"joint_{i + 1}" for i in range(dof)), "gripper"),
            (*("rad",) * dof, "1"),
            ActionKind.JOINT_POSITION, Composition.PREVIOUS_TARGET, 15.0, _OPEN_ONE,
            source="vla_ros",
        )  # fmt: skip
    elif name in _PRESETS:
        space = _PRESETS[name]
    else:
        raise ContractError(unknown("action space", name, action_space_names()))
    return space if rate is None else replace(space, rate=rate)
