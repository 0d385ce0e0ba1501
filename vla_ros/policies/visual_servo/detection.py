"""Finds blocks and plates in one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vla_ros.policies.visual_servo import fitting
from vla_ros.policies.visual_servo.camera import CameraView
from vla_ros.policies.visual_servo.colours import Region, segment
from vla_ros.policies.visual_servo.models import SHAPES
from vla_ros.types import Image

MAX_REGIONS = 3
"""Regions of a colour that are looked at, largest first."""
_GOOD = 0.9
"""Overlap beyond which no better explanation is looked for."""
_PIXEL_ERROR = 0.5
"""Standard deviation of a well seen outline's placement [pixel]."""


@dataclass(frozen=True)
class Detection:
    """An object seen standing on the table by one camera."""

    colour: str
    kind: str
    x: float
    y: float
    """Middle in the base frame [m]."""
    yaw: float
    """[rad] in [0, pi/2) for a block, 0 for a plate."""
    sigma: float
    """Standard deviation of x and y [m]."""
    overlap: float
    """How well the silhouette explains the region (0..1)."""
    coverage: float
    """Share of the silhouette that is seen (0..1): low when something hides the object."""

    @property
    def name(self) -> str:
        """As an instruction says it, "red block"."""
        return f"{self.colour} {self.kind}"


def detect(
    view: CameraView, rgb: Image, yaws: Mapping[tuple[str, str], float] | None = None
) -> list[Detection]:
    """Blocks and plates on the table (z = 0) in an image (h, w, 3): the best of each colour and kind.

    `yaws` [rad] of objects seen before, by (colour, kind), shorten the search.
    """
    found: dict[tuple[str, str], Detection] = {}
    seen: dict[str, int] = {}
    for region in segment(rgb):
        seen[region.colour] = seen.get(region.colour, 0) + 1
        if seen[region.colour] > MAX_REGIONS:
            continue
        detection = identify(view, region, yaws or {})
        if detection is None:
            continue
        key = (detection.colour, detection.kind)
        if key not in found or detection.overlap > found[key].overlap:
            found[key] = detection
    return list(found.values())


def identify(view: CameraView, region: Region, yaws: Mapping[tuple[str, str], float]) -> Detection | None:
    """The shape on the table that explains the region best; None when neither does."""
    best: fitting.Fit | None = None
    for shape in SHAPES:
        if not fitting.plausible(view, region, shape):
            continue
        yaw = yaws.get((region.colour, shape.kind))
        fit = fitting.fit(view, region, shape, yaw=yaw)
        if yaw is not None and (fit is None or fit.overlap < _GOOD):
            fit = fitting.fit(view, region, shape)
        if fit is not None and _credible(fit) and (best is None or fit.overlap > best.overlap):
            best = fit
        if best is not None and best.overlap > _GOOD:
            break
    if best is None:
        return None
    depth = float(view.project(best.shape.points(best.x, best.y, best.yaw, 0.0))[1].mean())
    hidden = 1.0 - min(best.coverage, best.inside)
    sigma = _PIXEL_ERROR * depth / view.focal * (1.0 + 8.0 * hidden)
    return Detection(
        region.colour, best.shape.kind, best.x, best.y, best.yaw, sigma, best.overlap, best.coverage
    )


def _credible(fit: fitting.Fit) -> bool:
    """The outline lies on the silhouette, and enough of the silhouette is seen."""
    if fit.inside < 0.35 or fit.error > 1.5:
        return False
    return fit.overlap > 0.4
