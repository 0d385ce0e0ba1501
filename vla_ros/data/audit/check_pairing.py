"""Checks of what was put together to observations: frames and joints of one moment, pixels on record."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla_ros.data.audit.finding import Finding, Level
from vla_ros.data.audit.look import Look
from vla_ros.data.audit.rules import Bounds
from vla_ros.types import NANOSECONDS, Array


def check_skew(look: Look) -> Iterator[Finding]:
    """How far apart in time the parts of an observation are."""
    apart: dict[str, list[float]] = {}
    for seen in look.record.observations:
        for camera, stamp in seen.frames[1:]:
            apart.setdefault(f"{camera} camera", []).append((stamp - seen.stamp) / NANOSECONDS)
        if seen.joints:
            apart.setdefault("joint state", []).append((seen.joints - seen.stamp) / NANOSECONDS)
    for name, values in apart.items():
        rules = look.rules.joint_skew if name == "joint state" else look.rules.camera_skew
        advice = look.remedy("synchronise the clocks or trigger together")
        yield _skew(name, np.abs(values), rules, look.period, advice)


def _skew(name: str, apart: Array, rules: Bounds, period: float, advice: str) -> Finding:
    p50, p95, most = (float(v) for v in (*np.percentile(apart, (50, 95)), apart.max()))
    level = rules.above(p95 / period - 1e-6) if period else Level.PASS
    said = [f"{round(1e3 * v, 3):.3g} ms" for v in (p50, p95, most)]
    text = f"{name}: p50 {said[0]}, p95 {said[1]}, at most {said[2]} from the image"
    if level is not Level.PASS:
        limit = (rules.fail if level is Level.FAIL else rules.warn) or 0.0
        text += f", allowed are {1e3 * limit * period:.3g} ms: {advice}"
    return Finding("skew", level, f"{text}.", name, p95, advice if level is not Level.PASS else "")


def check_unpaired(look: Look) -> Iterator[Finding]:
    """Every frame that an observation was made of is on its camera's topic."""
    rules, record = look.rules.unpaired, look.record
    named: dict[str, list[int]] = {}
    for seen in record.observations:
        for camera, stamp in seen.frames:
            named.setdefault(camera, []).append(stamp)
    for camera, stamps in named.items():
        if camera not in record.cameras:
            continue
        known = record.cameras[camera].stream.stamps
        # Frames from just before and after the episode are on record too, but not in this list: a large
        # frame may be recorded after the observation that was made of it.
        wanted = np.array([s for s in stamps if len(known) and known.min() <= s <= known.max()], np.int64)
        if not len(wanted):
            continue
        absent = int((~np.isin(wanted, known)).sum())
        share = absent / len(wanted)
        level = rules.above(share)
        text = f"camera {camera}: the frames of {absent} of {len(wanted)} observations are not on its topic"
        if level is not Level.PASS:
            most = 100 * ((rules.fail if level is Level.FAIL else rules.warn) or 0.0)
            text += f" ({100 * share:.1f} %), allowed are {most:g} %: the recorder dropped them"
        yield Finding("unpaired", level, f"{text}.", f"camera {camera}", share)
