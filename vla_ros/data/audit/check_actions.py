"""Checks of the actions: what they are, finite, on their grid, carried out as given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.audit.finding import Finding, Level
from vla_ros.data.audit.look import Look
from vla_ros.data.audit.timing import grid

AT_CLIP = 1e-3
"""Within this share of a clip a component is at it."""
ROUNDING = 1e-6
"""Beyond a clip by less than this is rounding of float32."""


def check_action_space(look: Look) -> Iterator[Finding]:
    """All actions speak the contract's action space, with its dimension."""
    outputs = [output for output in look.carried_out if not output.error]
    space, imported = look.space, look.record.imported
    names = {output.space for output in outputs}
    if space is not None and names - {space.name}:
        yield _fail(
            "action space",
            f"actions speak action space {', '.join(sorted(names)) or 'none'}, but the contract says "
            f"'{space.name}'",
        )
    elif len(names) > 1:
        yield _fail("action space", f"actions speak {', '.join(sorted(names))}; one episode speaks one")
    widths = Counter(output.dimension for output in outputs)
    expected = {space.dimension} if space is not None and not imported else set(list(widths)[:1])
    if set(widths) - expected:
        given = ", ".join(str(width) for width in sorted(widths))
        wanted = (
            f"action space '{space.name}' has {space.dimension}: {', '.join(space.dimensions)}"
            if space is not None
            else "all must have the same"
        )
        yield _fail("action space", f"actions have {given} dimensions, but {wanted}")
    troubles = Counter(output.error for output in look.record.outputs if output.error)
    for text, count in troubles.most_common(1):
        total = sum(troubles.values())
        yield Finding(
            "action space", Level.WARN, value=float(total),
            sentence=f"{total} policy outputs hold no action, the first kind {count} times: "
            f"{text.rstrip('.')}.",
        )  # fmt: skip


def check_finite(look: Look) -> Iterator[Finding]:
    """No NaN and no infinity in actions, joint states or observations."""
    outputs = look.carried_out
    bad = [k for k, output in enumerate(outputs) if not np.isfinite(output.values).all()]
    if bad:
        first = outputs[bad[0]]
        row, column = np.argwhere(~np.isfinite(first.values))[0]
        named = look.space.dimensions if look.space is not None else ()
        where = f" '{named[column]}'" if column < len(named) else f" {column}"
        yield _fail(
            "finite",
            f"{len(bad)} of {len(outputs)} actions are not finite, the first is {first.values[row, column]} "
            f"in dimension{where} at {look.at(first.stamp):.2f} s; allowed is none: leave the episode out",
            float(len(bad)),
        )
    for name, count in (
        ("joint states", look.record.joints_not_finite),
        ("observations", sum(not seen.finite for seen in look.record.observations)),
    ):
        if count:
            yield _fail("finite", f"{count} {name} hold numbers that are not finite; allowed is none", count)


def check_grid(look: Look) -> Iterator[Finding]:
    """Steps missing, doubled, or off the grid of the action rate."""
    steps, rules, period = look.steps, look.rules, look.period
    if len(steps) < 2 or not period:
        return
    found = grid(steps.stamps, period, rules.grid_tolerance, steps.begins)
    missing, hole = found.missing, found.longest_hole
    share = missing / found.steps
    level = max(rules.missing_steps.above(share), rules.missing_run.above(hole / period - 1e-6))
    text = f"actions: {missing} of {found.steps} steps are missing ({100 * share:.1f} %)"
    if missing:
        text += f", the longest hole is {hole:.2f} s at {look.at(found.hole_start):.1f} s"
    if level is not Level.PASS:
        most = 100 * ((rules.missing_steps.fail if level is Level.FAIL else rules.missing_steps.warn) or 0.0)
        text += f"; allowed are {most:g} % and holes of {(rules.missing_run.fail or 0.0) * period:.2f} s"
    yield Finding("action grid", level, f"{text}.", "missing", share)
    for name, count, bounds, what in (
        ("double", found.double, rules.double_steps, "come within half a period of the one before"),
        (
            "off grid",
            found.off,
            rules.off_grid,
            f"are more than {rules.grid_tolerance:g} periods off the grid",
        ),
    ):
        share = count / found.steps
        level = bounds.above(share)
        if level is not Level.PASS:
            most = 100 * ((bounds.fail if level is Level.FAIL else bounds.warn) or 0.0)
            yield Finding(
                "action grid", level, subject=name, value=share,
                sentence=f"actions: {count} of {found.steps} {what} ({100 * share:.1f} %), allowed are "
                f"{most:g} %: is more than one device or policy acting?",
            )  # fmt: skip


def check_clipped(look: Look) -> Iterator[Finding]:
    """Share of the steps that decoding clips, and of those that lie at the clip."""
    rules, steps = look.rules, look.steps
    marks = clip_marks(look)
    if marks is None or not len(steps) or look.space is None:
        return
    beyond, at = (mark.any(axis=1) for mark in marks)
    share = float(beyond.mean())
    level = rules.clipped.above(share)
    text = f"actions: {int(beyond.sum())} of {len(steps)} steps lie beyond the clip ({100 * share:.1f} %)"
    if level is not Level.PASS:
        counts = marks[0].sum(axis=0)
        most = 100 * ((rules.clipped.fail if level is Level.FAIL else rules.clipped.warn) or 0.0)
        named = ", ".join(look.space.dimensions[k] for k in np.argsort(-counts)[:3] if counts[k])
        text += f", most of all in {named}, allowed are {most:g} %: lower the device's scale"
    yield Finding("clipped", level, f"{text}.", "beyond", share)
    share = float(at.mean())
    level = rules.at_clip.above(share)
    text = f"actions: {int(at.sum())} of {len(steps)} steps lie at the clip ({100 * share:.1f} %)"
    if level is not Level.PASS:
        text += f", {100 * (rules.at_clip.warn or 0.0):g} % are usual: lower the device's scale"
    yield Finding("clipped", level, f"{text}.", "at", share)


def clip_marks(look: Look) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """(beyond, at), each (T, dimension): what decoding clips, and what lies at the clip; None: not known."""
    if look.clips is None:
        return None
    low, high = look.clips
    values = look.steps.values
    slack_low, slack_high = ROUNDING * np.maximum(np.abs(low), 1.0), ROUNDING * np.maximum(np.abs(high), 1.0)
    with np.errstate(invalid="ignore"):
        beyond = (values > high + slack_high) | (values < low - slack_low)
        near = (values > high - AT_CLIP * np.abs(high)) | (values < low + AT_CLIP * np.abs(low))
    finite = np.isfinite(low) & np.isfinite(high)
    return beyond & finite, near & ~beyond & finite


def _fail(check: str, text: str, value: float | None = None) -> Finding:
    return Finding(check, Level.FAIL, f"{text}.", value=value)
