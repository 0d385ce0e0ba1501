"""Many ways to say one goal, all of the grammar that tasks and policies read."""

from __future__ import annotations

import numpy as np

from vla_ros.sim.goal import Goal

_FORMS = {
    "pick": (
        "pick up the {target} {block}", "pick the {target} {block} up", "grasp the {target} {block}",
        "grab the {target} {block}", "take the {target} {block}", "lift the {target} {block}",
    ),
    "place": (
        "put the {target} {block} on the {other} {plate}",
        "place the {target} {block} on the {other} {plate}",
        "set the {target} {block} onto the {other} {plate}",
        "lay the {target} {block} on the {other} {plate}",
        "move the {target} {block} onto the {other} {plate}",
    ),
    "stack": (
        "stack the {target} {block} on the {other} {second}",
        "put the {target} {block} on top of the {other} {second}",
        "place the {target} {block} on the {other} {second}",
        "set the {target} {block} on the {other} {second}",
    ),
    "push": (
        "push the {target} {block} to the {other}", "slide the {target} {block} to the {other}",
        "shove the {target} {block} to the {other}", "move the {target} {block} to the {other}",
        "push the {target} {block} towards the {other}",
    ),
}  # fmt: skip
_BLOCKS = ("block", "cube", "brick")
_PLATES = ("plate", "dish", "disc")
_MANNERS = ("{}", "{}", "{}", "please {}", "{} please", "{}.")


def phrase(goal: Goal, seed: int) -> str:
    """A way to say a goal, the same for the same seed."""
    rng = np.random.default_rng([seed, 4])
    block, second, plate = rng.choice(_BLOCKS), rng.choice(_BLOCKS), rng.choice(_PLATES)
    text = str(rng.choice(_FORMS[goal.task])).format(
        target=goal.target, other=goal.destination, block=block, second=second, plate=plate
    )
    text = str(rng.choice(_MANNERS)).format(text)
    return text[0].upper() + text[1:] if rng.random() < 0.3 else text
