"""A chunk whose steps were all due before it came: its motion begins now, where the robot is on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.execution.spline import SPACING
from vla_ros.execution.targets import Path
from vla_ros.types import Array

_FINENESS = 16
"""Points a step among which the nearest to the robot is looked for."""
_VERTICES = 4
"""Parts of a late path at least, so that the curve keeps its speed; fewer where they would be merged."""


@dataclass(frozen=True)
class Deferred:
    """A late chunk in the robot's time."""

    path: Path
    """Evenly spaced, from the point nearest to the robot to the last target."""
    spacing: float
    """Seconds between its vertices."""
    begins: Array
    """(n,) when the steps begin [s]; those that are done already lie in the past."""


def deferred(meant: Path, now: float, here: Array, seconds: float) -> Deferred:
    """The rest of a path, from now on.

    What the robot has done of it since the stamp is not done twice: the path is entered at the point nearest
    to `here`, the first such from its beginning on.  A path back along itself is entered on the way out.

    Args:
        meant: the chunk's targets as the policy meant them; vertex 0 is the target at its stamp.
        now: [s].
        here: (d,) the target in force now.
        seconds: that the whole path takes.
    """
    steps = len(meant.times) - 1
    shares = np.linspace(0.0, 1.0, _FINENESS * steps + 1)
    distances = meant.space.distance(_at(meant, shares), here)
    further = np.flatnonzero(np.diff(distances) >= -1e-12)
    done = float(shares[further[0]]) if len(further) else 1.0
    left = seconds * max(1.0 - done, 1.0 / max(_VERTICES, steps))
    vertices = max(2, min(max(_VERTICES, steps), int(left / SPACING)))
    times = now + left * np.linspace(0.0, 1.0, vertices + 1)
    points = _at(meant, np.linspace(done, 1.0, vertices + 1))
    begins = now + seconds * (np.arange(steps) / steps - done)
    return Deferred(Path(times, points, meant.space), left / vertices, begins)


def _at(path: Path, shares: Array) -> Array:
    """Points (m, d) at shares (m,) of the path's time."""
    return path.points_at(path.times[0] + shares * (path.times[-1] - path.times[0]))
