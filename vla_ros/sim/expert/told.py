"""A scene as a simulator tells it: what a plan asks of a world, without the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from vla_ros.actions import rotations
from vla_ros.errors import ConfigurationError
from vla_ros.robots.spec import RobotSpec
from vla_ros.sim.goal import goal_of
from vla_ros.sim.objects import COLOURS, Block, Plate, block_name, plate_name
from vla_ros.sim.tasks import TIME_LIMITS, Task, table_bounds
from vla_ros.types import Pose


class ToldScene:
    """See `Known`; `tell` it where everything is as often as that is heard."""

    def __init__(self, spec: RobotSpec, instruction: str, seed: int, objects: Mapping[str, Pose]) -> None:
        """`objects`: by name (`World.objects`) as the episode begins, in the base frame.

        Raises `InstructionError` when the instruction asks for nothing that a simulator knows, and
        `ConfigurationError` when it asks for something that is not there.
        """
        goal = goal_of(instruction)
        blocks = tuple(
            Block(colour, pose.position, _yaw(pose)) for colour, pose in _named(objects, block_name)
        )
        plates = tuple(Plate(colour, pose.position) for colour, pose in _named(objects, plate_name))
        needed = [block_name(goal.target)]
        if goal.task in ("place", "stack"):
            name = plate_name if goal.task == "place" else block_name
            needed.append(name(goal.destination))
        self._needed = tuple(needed)
        self.spec = spec
        self.task = Task(goal, instruction, seed, blocks, plates, table_bounds(spec), TIME_LIMITS[goal.task])
        self.tell(objects)

    def tell(self, objects: Mapping[str, Pose]) -> None:
        """Where everything is now.  Raises `ConfigurationError` when something that is needed is gone."""
        for name in self._needed:
            if name not in objects:
                raise ConfigurationError(
                    f"The simulator's scene has no '{name}', which '{self.task.instruction}' needs."
                )
        self._objects = dict(objects)

    def block_pose(self, colour: str) -> Pose:
        """See `Known`."""
        return self._objects[block_name(colour)]


def _named(objects: Mapping[str, Pose], name: Callable[[str], str]) -> list[tuple[str, Pose]]:
    return [(colour, objects[name(colour)]) for colour in COLOURS if name(colour) in objects]


def _yaw(pose: Pose) -> float:
    matrix = rotations.to_matrix(pose.quaternion)
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))
