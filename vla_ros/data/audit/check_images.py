"""Checks of the pictures: decodable, of the contract's size, not black, not frozen, each a new one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla_ros.data.audit.finding import Finding, Level
from vla_ros.data.audit.look import Look
from vla_ros.data.audit.record import CameraRecord
from vla_ros.data.audit.rules import Bounds
from vla_ros.types import NANOSECONDS


def check_decodable(look: Look) -> Iterator[Finding]:
    """What was looked at could be read."""
    for name, camera in look.record.cameras.items():
        if camera.undecodable:
            yield Finding(
                "decodable", Level.FAIL, subject=f"camera {name}", value=float(camera.undecodable),
                sentence=f"camera {name}: {camera.undecodable} frames cannot be read: "
                f"{camera.trouble.rstrip('.')}.",
            )  # fmt: skip


def check_size(look: Look) -> Iterator[Finding]:
    """The pictures have the size that the contract says, or at least all the same."""
    contract = look.record.contract
    for name, camera in look.record.cameras.items():
        spec = contract.cameras.get(name) if contract is not None else None
        wanted = (spec.width, spec.height) if spec is not None else None
        given = ", ".join(f"{w} x {h}" for w, h in sorted(camera.sizes))
        if wanted is not None and set(camera.sizes) - {wanted}:
            yield Finding(
                "image size", Level.FAIL, subject=f"camera {name}",
                sentence=f"camera {name}: frames are {given} pixels, the contract says {wanted[0]} x "
                f"{wanted[1]}; set the camera or the contract.",
            )  # fmt: skip
        elif len(camera.sizes) > 1:
            yield Finding(
                "image size", Level.FAIL, subject=f"camera {name}",
                sentence=f"camera {name}: frames change their size ({given} pixels), allowed is one.",
            )  # fmt: skip


def check_black(look: Look) -> Iterator[Finding]:
    """Share of the frames looked at that are black."""
    for name, camera in look.record.cameras.items():
        if not len(camera.black):
            continue
        share = float(np.mean(np.array(camera.black)))
        if look.record.imported and share == 1.0:
            # Data sets of one form hold black frames for cameras that an episode did not have.
            yield Finding(
                "black", Level.WARN, subject=f"camera {name}", value=share,
                sentence=f"camera {name}: every frame is black, as of one that this episode did not have; "
                "leave it out of training.",
            )  # fmt: skip
            continue
        yield _judged(
            "black", name, share, look.rules.black,
            f"{100 * share:.1f} % of {len(camera.black)} frames looked at are black",
            "uncover the lens, wait until the camera has started",
        )  # fmt: skip


def check_frozen(look: Look) -> Iterator[Finding]:
    """Share of the time in which one picture stood still while the joints moved."""
    for name, camera in look.record.cameras.items():
        if len(camera.black) and all(camera.black):
            continue  # `check_black` has said it
        stretches = frozen_stretches(look, camera)
        seconds = sum(b - a for a, b in stretches)
        share = seconds / look.record.seconds if look.record.seconds > 0 else 0.0
        times = f"{len(stretches)} stretch{'es' * (len(stretches) != 1)}"
        yield _judged(
            "frozen", name, share, look.rules.frozen,
            f"frozen for {seconds:.1f} s in {times} ({100 * share:.1f} % of the time)",
            "restart the camera and look at its cable",
        )  # fmt: skip


def frozen_stretches(look: Look, camera: CameraRecord) -> list[tuple[float, float]]:
    """(from, to) [s of the episode] in which one picture stood still while the joints moved."""
    stamps, equal = camera.stream.stamps, np.array(camera.equal, np.int8)
    at, joints = look.record.joints()
    flips = np.flatnonzero(np.diff(np.concatenate([[0], equal, [0]])))
    found = []
    for a, b in zip(flips[::2], flips[1::2], strict=True):
        start, stop = int(stamps[max(a - 1, 0)]), int(stamps[b - 1])
        if (stop - start) / NANOSECONDS <= look.rules.frozen_after:
            continue
        meanwhile = joints[(at >= start) & (at <= stop)]
        if len(meanwhile) and float(np.ptp(meanwhile, axis=0).max()) > look.rules.frozen_motion:
            found.append((look.at(start), look.at(stop)))
    return found


def check_repeated(look: Look) -> Iterator[Finding]:
    """Frames equal to the one before, while the joints move; frozen stretches left out."""
    at, joints = look.record.joints()
    if len(at) < 2:
        return
    for name, camera in look.record.cameras.items():
        stamps, equal = camera.stream.stamps, np.array(camera.equal, np.bool_)
        if len(stamps) < 2:
            continue
        for start, stop in frozen_stretches(look, camera):
            seconds = (stamps - look.edges[0]) / NANOSECONDS
            equal &= ~((seconds > start) & (seconds <= stop))
        order = np.argsort(at, kind="stable")
        period = look.stream_period(camera.stream) or 1.0
        where = np.clip(np.searchsorted(at[order], stamps), 1, len(at) - 1)
        before = np.clip(np.searchsorted(at[order], stamps - round(period * NANOSECONDS)), 0, len(at) - 1)
        moved = np.abs(joints[order][where] - joints[order][before]).max(axis=1)
        moving = moved > max(look.rules.idle_motion, look.rules.idle_speed * period)
        if not moving.any():
            continue
        share = float(equal[moving].mean())
        yield _judged(
            "repeated", name, share, look.rules.repeated,
            f"{100 * share:.1f} % of the frames during motion equal the one before",
            "the camera is slower than its topic",
        )  # fmt: skip


def _judged(check: str, camera: str, value: float, rules: Bounds, what: str, remedy: str) -> Finding:
    level = rules.above(value)
    text = f"camera {camera}: {what}"
    if level is not Level.PASS:
        most = 100 * ((rules.fail if level is Level.FAIL else rules.warn) or 0.0)
        text += f", allowed are {most:g} %: {remedy}"
    return Finding(check, level, f"{text}.", f"camera {camera}", value)
