"""How a new chunk and what was asked for before become one path of targets.

A blending decides on targets only.  The curve through them starts from the position, velocity and
acceleration of the motion under way, so no blending can make it jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vla_ros.errors import ActionError, ConfigurationError, unknown
from vla_ros.execution.targets import Path
from vla_ros.types import Array

ACT_DECAY = 0.01
"""m of ACT's temporal ensemble (Zhao et al., "Learning Fine-Grained Bimanual Manipulation with Low-Cost
Hardware", arXiv 2304.13705; 0.01 is the `k` of its published code)."""


@dataclass(frozen=True)
class Blended:
    """The path of targets from now on, and when the curve through it begins."""

    begin: float
    """Until here [s] the motion under way stays exactly as it is."""
    path: Path


class Blending(Protocol):
    """One way to join chunks.  Stateless: the executor keeps the chunks."""

    name: str
    commits: bool
    """Whether what is due within the delay of the policy stays as it is."""

    def blend(self, new: Path, earlier: Sequence[Path], current: Path, keep: float) -> Blended:
        """Join a chunk.

        Args:
            new: the chunk's targets; the vertex 0 is the pose at its stamp, vertex k + 1 its step k.
            earlier: the chunks before it that still predict something, each a path like `new`.
            current: the path of targets followed until now.
            keep: until when the present motion is to stay [s], now or later.

        Raises:
            ActionError: nothing of the chunk can be followed any more.
        """
        ...


class Replace:
    """Receding horizon: the newest chunk counts, whatever was asked for before."""

    name = "replace"
    commits = False

    def blend(self, new: Path, earlier: Sequence[Path], current: Path, keep: float) -> Blended:
        """See `Blending`."""
        return Blended(keep, new)


class TemporalEnsemble:
    """Mean of all chunks that predict a time, weighted exp(-m i), i = 0 the oldest (ACT, arXiv 2304.13705).

    Octo's wrapper counts the same way (octo/utils/gym_wrappers.py, `TemporalEnsembleWrapper`): its
    `exp_weight` is m, and its default is 0, the plain mean.  A negative m favours the newest.  Chunks need
    not share a grid: the older ones are read between their steps.  The newest chunk's end is the end.
    """

    name = "temporal_ensemble"
    commits = False

    def __init__(self, m: float = ACT_DECAY) -> None:
        """`m`: decay per chunk, of either sign."""
        self.m = m

    def blend(self, new: Path, earlier: Sequence[Path], current: Path, keep: float) -> Blended:
        """See `Blending`.  Age is that of the stamps, whatever the order of arrival."""
        chunks = sorted([*earlier, new], key=lambda path: float(path.times[0]))
        newest = chunks[-1]
        due = newest.times[1:]
        points, predicting = _predictions(chunks, due)
        ranks = np.cumsum(predicting, axis=0) - 1  # counted among those that predict this very time
        exponents = np.where(predicting, -self.m * ranks, -np.inf)
        weights = np.exp(exponents - exponents.max(axis=0))
        mean = new.space.mean(points, weights / weights.sum(axis=0))
        return Blended(keep, Path(newest.times, np.vstack([newest.points[:1], mean]), new.space))


class RealTimeChunking:
    """The committed prefix stays, the overlap goes over softly from old to new, the rest is new.

    The weights of the old targets are the soft mask of real-time chunking (Black, Galliker, Levine,
    "Real-Time Execution of Action Chunking Flow Policies", arXiv 2506.07339, eq. 5): of n overlapping steps
    after the prefix, step j has c (exp(c) - 1) / (e - 1) with c = (n - j) / (n + 1).  There they guide the
    denoising of the next chunk; here they blend with the chunk of any policy, and one that was conditioned
    on the prefix agrees with it anyway.
    """

    name = "rtc"
    commits = True

    def blend(self, new: Path, earlier: Sequence[Path], current: Path, keep: float) -> Blended:
        """See `Blending`.  Raises `ActionError` when the whole chunk lies in the committed prefix."""
        free = new.times[1:] > keep + 1e-9
        if not free.any():
            raise ActionError(
                f"all {len(free)} steps lie in the committed prefix: the chunk reaches "
                f"{new.end - new.times[0]:.3f} s from its stamp, and {keep - new.times[0]:.3f} s are promised"
            )
        due, points = new.times[1:][free], new.points[1:][free]
        old = current.points_at(due)
        points = new.space.between(points, old, soft_mask(int((due <= current.end).sum()), len(due)))
        before, kept = current.span(float(new.times[0]), keep)
        return Blended(keep, Path(np.concatenate([before, due]), np.vstack([kept, points]), new.space))


def soft_mask(overlap: int, steps: int) -> Array:
    """Weights (steps,) of the old targets after the committed prefix; see `RealTimeChunking`."""
    c = np.clip((overlap - np.arange(steps)) / (overlap + 1.0), 0.0, 1.0)
    return np.asarray(c * np.expm1(c) / np.expm1(1.0))


def _predictions(chunks: Sequence[Path], due: Array) -> tuple[Array, Array]:
    """What each of m chunks says of times (k,): points (m, k, d), and whether it says anything (m, k).

    All at once, as their steps are evenly spaced: this runs between two ticks of the controller.
    """
    sizes = np.array([len(chunk.times) for chunk in chunks])
    starts = np.array([chunk.times[0] for chunk in chunks])[:, None]
    periods = np.array([chunk.times[1] - chunk.times[0] for chunk in chunks])[:, None]
    steps = (due - starts) / periods
    predicting = (steps > 1e-9) & (steps < sizes[:, None] - 1 + 1e-9)
    index = np.clip(np.floor(steps + 1e-9).astype(int), 0, sizes[:, None] - 2)
    flat = index + (np.cumsum(sizes) - sizes)[:, None]
    vertices = np.vstack([chunk.points for chunk in chunks])
    share = np.clip(steps - index, 0.0, 1.0).ravel()
    points = chunks[0].space.between(vertices[flat.ravel()], vertices[flat.ravel() + 1], share)
    return points.reshape(len(chunks), len(due), -1), predicting


_KINDS: dict[str, type[Replace] | type[TemporalEnsemble] | type[RealTimeChunking]] = {
    kind.name: kind for kind in (Replace, TemporalEnsemble, RealTimeChunking)
}


def make_blending(name: str) -> Blending:
    """The blending a contract names.  Raises `ConfigurationError` when there is none of that name."""
    if name not in _KINDS:
        raise ConfigurationError(unknown("blending", name, _KINDS))
    return _KINDS[name]()
