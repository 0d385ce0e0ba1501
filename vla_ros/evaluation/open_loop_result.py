"""The figures of open-loop comparisons, as they stand in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vla_ros.evaluation.open_loop import Errors, OpenLoop, errors, grip, horizon_errors, pooled
from vla_ros.types import ActionKind, Array


def figures_of(ones: Sequence[OpenLoop]) -> dict[str, Any]:
    """Of one or several episodes of the same kind: lengths in metres, angles in radians; None: not known."""
    first = ones[0]
    recorded = np.vstack([one.recorded for one in ones])
    now = np.vstack([one.now for one in ones])
    asked = np.isfinite(now).all(axis=1)

    def against(rows: list[Array]) -> Errors:
        said = np.vstack(rows)
        said[~asked] = np.nan  # the same steps as the policy was asked at
        return errors(said, recorded)

    mine = errors(now, recorded)
    held, repeated = against([one.held() for one in ones]), against([one.repeated() for one in ones])
    grips = [grip(one.now[:, -1], one.recorded[:, -1], one.middle) for one in ones]
    agreed = [g.agreement * np.isfinite(o.now[:, -1]).sum() for g, o in zip(grips, ones, strict=True)]
    late = [g.late * g.found for g in grips if g.found]
    found = sum(g.found for g in grips)
    took = np.array([value for one in ones for value in one.seconds])
    return {
        "episodes": len(ones),
        "steps": len(recorded),
        "answers": mine.count,
        "refused": sum(len(one.refused) for one in ones),
        "groups": _groups(first, mine),
        "dimensions": [
            {
                "name": name,
                "unit": unit,
                "mean_absolute": plain(mine.mean_absolute[k]),
                "rms": plain(mine.rms[k]),
                "worst": plain(mine.worst[k]),
                "bias": plain(mine.bias[k]),
                "correlation": plain(mine.correlation[k]),
                "held_rms": plain(held.rms[k]),
                "repeated_rms": plain(repeated.rms[k]),
            }
            for k, (name, unit) in enumerate(zip(first.names, first.units, strict=True))
        ],
        "gripper": {
            "agreement": plain(np.nansum(agreed) / mine.count) if mine.count else None,
            "changes": sum(g.changes for g in grips),
            "found": found,
            "late_steps": plain(sum(late) / found) if found else None,
        },
        "horizon": {
            name: [plain(v) for v in values] for name, values in horizon_errors(pooled(list(ones))).items()
        },
        "answer_seconds": {"p50": plain(np.median(took)), "p99": plain(np.quantile(took, 0.99))}
        if len(took)
        else None,
    }


def plain(value: float) -> float | None:
    """A number for JSON; nan is null."""
    return float(value) if np.isfinite(value) else None


def _groups(one: OpenLoop, mine: Errors) -> dict[str, Any]:
    parts = {"joints": (slice(0, -1), "rad")}
    if one.kind is not ActionKind.JOINT_POSITION:
        parts = {"translation": (slice(0, 3), "m"), "rotation": (slice(3, 6), "rad")}
    return {
        name: {"rms": plain(np.sqrt(np.sum(mine.rms[part] ** 2))), "unit": unit}
        for name, (part, unit) in parts.items()
    }
