"""How one demonstration differs from the next, as those of a person do: drawn once an episode from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RECOVERIES = ("beside", "miss", "drop", "disturbed")
"""What can go wrong and be put right; see `Variation.recovery`."""


@dataclass(frozen=True)
class Variation:
    """Spans (low, high) and probabilities that an episode's manner is drawn from."""

    speed: tuple[float, float] = (0.10, 0.17)
    """Highest speed of the tool on a straight way [m/s]."""
    turn: float = 0.7
    """Highest angular speed of the tool [rad/s]."""
    skew: tuple[float, float] = (0.85, 1.2)
    """Exponent of the share of time before it goes into the speed profile: below 1 early, above 1 late."""
    height: tuple[float, float] = (0.10, 0.13)
    """Height above an object from which it is approached, and to which it is lifted [m]."""
    bow: float = 0.06
    """A way bends sideways by up to this share of its length."""
    grip: tuple[float, float] = (-0.002, 0.006)
    """Height of the grasp above the block's centre [m]."""
    lateral: float = 0.004
    """Largest distance of the grasp from the block's middle [m]."""
    other_side: float = 0.25
    """Probability to grasp at the second nearest of the block's symmetries."""
    yaw: float = 0.06
    """Largest error of the grasp's yaw [rad]."""
    plate: float = 0.012
    """Largest distance from the middle of a plate at which a block is put down [m]."""
    tower: float = 0.004
    """The same on another block [m]."""
    pause: float = 0.15
    """Probability to hesitate before a leg."""
    pause_seconds: tuple[float, float] = (0.2, 0.7)
    tremor: float = 0.0006
    """Standard deviation of the hand's tremor along each axis [m]."""
    recovery: float = 0.35
    """Probability of an episode in which something goes wrong first and is put right:

    - beside: the tool comes down beside the block and is corrected (push: beside the way);
    - miss: the fingers close on air above the block (push: the tool stops short and begins again);
    - drop: the block is let go of just above the table (push: as miss);
    - disturbed: the arm does not start at home.
    """
    attempts: int = 4
    """Tries at a task before it is given up."""


STEADY = Variation(
    speed=(0.25, 0.25), turn=1.5, skew=(1.0, 1.0), height=(0.12, 0.12), bow=0.0, grip=(0.0, 0.0), lateral=0.0,
    other_side=0.0, yaw=0.0, plate=0.0, tower=0.0, pause=0.0, tremor=0.0, recovery=0.0, attempts=1,
)  # fmt: skip
"""No variation at all, for tests of the simulated world."""


@dataclass(frozen=True)
class Manner:
    """What was drawn for one episode."""

    variation: Variation
    speed: float
    skew: float
    height: float
    recovery: str
    """One of `RECOVERIES`, or empty."""
    rng: np.random.Generator
    """For what is drawn on the way."""


def draw(variation: Variation, seed: int) -> Manner:
    """The manner of an episode, the same for the same seed."""
    rng = np.random.default_rng([seed, 2])
    speed, skew, height = (
        float(rng.uniform(*s)) for s in (variation.speed, variation.skew, variation.height)
    )
    recovery = str(rng.choice(RECOVERIES))
    goes_wrong = bool(rng.random() < variation.recovery)
    return Manner(variation, speed, skew, height, recovery if goes_wrong else "", rng)
