"""Tabletop tasks: random scenes from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.errors import ConfigurationError, InstructionError, unknown
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.goal import TASKS, Goal, goal_of
from vla_ros.sim.objects import BLOCK_SIZE, COLOURS, PLATE_RADIUS, Block, Plate
from vla_ros.sim.projection import in_image
from vla_ros.types import Array

TIME_LIMITS = {"pick": 30.0, "push": 30.0, "place": 60.0, "stack": 60.0}
"""Seconds of simulated time after which an episode has failed."""
BLOCK_GAP = 0.10
"""Least distance between the centres of two blocks: open fingers reach one without touching the other [m]."""
PLATE_GAP = 0.13
"""Least distance between the centres of a block and of the plate [m]."""
PUSH_GAP = 0.13
"""Least distance of other blocks from one that is to be pushed [m]."""
_PUSH_LANE = 0.09
_PUSH_WAY = 0.25
_IMAGE_MARGIN = 0.02
_ATTEMPTS = 20_000


@dataclass(frozen=True)
class Task:
    """A scene and what is to be done in it.

    The instruction speaks of left and right as the robot sees them: +y of the base frame is left.
    """

    goal: Goal
    instruction: str
    seed: int
    blocks: tuple[Block, ...]
    plates: tuple[Plate, ...]
    table: tuple[Array, Array]
    """Corners (x, y) of the table top [m]."""
    time_limit: float

    @property
    def name(self) -> str:
        """pick, place, push or stack."""
        return self.goal.task


def table_bounds(spec: RobotSpec) -> tuple[Array, Array]:
    """Corners (x, y) of the table top in the base frame; the robot stands on it [m]."""
    reach = spec.workspace.maximum
    return np.array([-0.25, -reach[1] - 0.3]), np.array([reach[0] + 0.2, reach[1] + 0.3])


def placement_region(spec: RobotSpec) -> tuple[Array, Array]:
    """Corners (x, y) of the middle of the workspace, where objects are put [m]."""
    low, high = spec.workspace.minimum, spec.workspace.maximum
    span = (high - low)[:2]
    return low[:2] + np.array([0.25, 0.2]) * span, low[:2] + np.array([0.78, 0.8]) * span


def resolve_goal(task: str, instruction: str, rng: np.random.Generator) -> Goal:
    """The goal that a task's name and an instruction (either may be empty) ask for; `rng` picks free colours.

    Raises `ConfigurationError` for an unknown task and `InstructionError` when both are empty, the
    instruction is not understood, or the two contradict each other.
    """
    if task and task not in TASKS:
        raise ConfigurationError(unknown("The task", task, TASKS))
    if instruction.strip() or not task:
        goal = goal_of(instruction)
        if task and goal.task != task:
            raise InstructionError(
                f"The instruction '{instruction}' asks for '{goal.task}' but the task is '{task}'; "
                "leave the task empty or let both say the same."
            )
        return goal
    target, other = (str(colour) for colour in rng.permutation(list(COLOURS))[:2])
    destinations = {"pick": "", "place": other, "stack": other, "push": str(rng.choice(["left", "right"]))}
    return Goal(task, target, destinations[task])


def make_task(task: str, instruction: str, seed: int, spec: RobotSpec, attempt: int = 0) -> Task:
    """A random scene, the same for the same arguments.

    `attempt` > 0 gives another scene for the same seed and goal, for when the arm is in the way of the first.
    Raises `ConfigurationError` for an unknown task, a negative seed, or a primary camera that cannot see the
    middle of the workspace, and `InstructionError` as `resolve_goal` does.
    """
    if seed < 0:
        raise ConfigurationError(f"The seed is {seed}; it must not be negative.")
    goal = resolve_goal(task, instruction, np.random.default_rng([seed, 0]))
    rng = np.random.default_rng([seed, 1, attempt])
    colours = _block_colours(goal, rng)
    plate_colours = [goal.destination] if goal.task == "place" else []
    minimum, maximum = placement_region(spec)
    for _ in range(_ATTEMPTS):
        centres = rng.uniform(minimum, maximum, size=(len(colours) + len(plate_colours), 2))
        if _well_spaced(centres, len(colours), goal) and _in_sight(centres, len(colours), spec):
            break
    else:
        raise ConfigurationError(
            f"No room for {len(colours)} blocks was found in sight of the camera 'primary' of robot "
            f"'{spec.name}'; check workspace and cameras in {spec.yaml_path}."
        )
    blocks = tuple(
        Block(colour, np.array([*centre, 0.5 * BLOCK_SIZE]), float(rng.uniform(-np.pi, np.pi)))
        for colour, centre in zip(colours, centres[: len(colours)], strict=True)
    )
    plates = tuple(
        Plate(colour, np.array([*centre, 0.0]))
        for colour, centre in zip(plate_colours, centres[len(colours) :], strict=True)
    )
    text = instruction.strip() or goal.instruction
    return Task(goal, text, seed, blocks, plates, table_bounds(spec), TIME_LIMITS[goal.task])


def _block_colours(goal: Goal, rng: np.random.Generator) -> list[str]:
    """Colours of the blocks, the target first; none shares the plate's colour unless the target must."""
    needed = [goal.target] + ([goal.destination] if goal.task == "stack" else [])
    avoided = {goal.destination} if goal.task == "place" else set()
    spare = [colour for colour in COLOURS if colour not in needed and colour not in avoided]
    count = 3 if goal.task == "place" else int(rng.integers(3, 5))
    extra = [str(colour) for colour in rng.permutation(spare)]
    return (needed + extra)[:count]


def _well_spaced(centres: Array, blocks: int, goal: Goal) -> bool:
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    least = np.full_like(distances, BLOCK_GAP)
    least[blocks:, :] = least[:, blocks:] = PLATE_GAP
    if goal.task == "push":
        least[0, :] = least[:, 0] = PUSH_GAP
        side = 1.0 if goal.destination == "left" else -1.0
        ahead = (centres[1:] - centres[0]) * np.array([1.0, side])
        in_lane = (np.abs(ahead[:, 0]) < _PUSH_LANE) & (ahead[:, 1] > 0.0) & (ahead[:, 1] < _PUSH_WAY)
        if np.any(in_lane):
            return False
    np.fill_diagonal(least, 0.0)
    return bool(np.all(distances >= least))


def _in_sight(centres: Array, blocks: int, spec: RobotSpec) -> bool:
    fixed = [camera for camera in spec.cameras.values() if camera.parent_frame == spec.base_frame]
    camera = spec.cameras.get("primary", fixed[0] if fixed else None)
    if camera is None or camera.parent_frame != spec.base_frame:
        return True
    points: list[Sequence[float]] = []
    for index, (x, y) in enumerate(centres):
        radius, top = (0.5 * BLOCK_SIZE * np.sqrt(2.0), BLOCK_SIZE) if index < blocks else (PLATE_RADIUS, 0.0)
        points += [(x + i * radius, y + j * radius, z) for i in (-1, 1) for j in (-1, 1) for z in (0.0, top)]
    return in_image(camera, np.array(points), _IMAGE_MARGIN * camera.height)
