"""What a simulated episode asks for."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.errors import InstructionError
from vla_ros.instruction import parse_instruction
from vla_ros.sim.objects import COLOURS

TASKS = ("pick", "place", "push", "stack")


@dataclass(frozen=True)
class Goal:
    """`task` is one of `TASKS`; `target` is the colour of the block that is to be moved.

    `destination` is the colour of the plate (place) or of the lower block (stack), left or right as the robot
    sees it (push: left is +y of the base frame), and empty for pick.
    """

    task: str
    target: str
    destination: str = ""

    @property
    def instruction(self) -> str:
        """The goal as a sentence that `goal_of` reads back."""
        return {
            "pick": f"pick up the {self.target} block",
            "place": f"put the {self.target} block on the {self.destination} plate",
            "push": f"push the {self.target} block to the {self.destination}",
            "stack": f"stack the {self.target} block on the {self.destination} block",
        }[self.task]


def goal_of(instruction: str) -> Goal:
    """Goal of an instruction.

    Raises `InstructionError` when it is empty, not understood, or names a colour the simulator does not have.
    """
    parsed = parse_instruction(instruction)
    for colour, kind in parsed.objects:
        if colour not in COLOURS:
            raise InstructionError(
                f"The instruction '{instruction}' names a {colour} {kind}; the simulated scene has blocks "
                f"and plates in {', '.join(COLOURS)}."
            )
    return Goal(parsed.verb.value, parsed.target_colour, parsed.destination_colour or parsed.side)
