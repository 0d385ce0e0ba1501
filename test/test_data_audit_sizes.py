"""The audit's numbers: a fault of size x is reported with size x, within a sample's period."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demonstration_bag import Demonstration, write_bag
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from vla_ros.data.audit import EpisodeAudit, Level, audit_bag
from vla_ros.data.audit.idle import idle_stretches
from vla_ros.data.audit.rules import AuditRules
from vla_ros.data.audit.timing import grid, timing

# Bags take a quarter of a second each: no shrinking.
BAGS = settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.generate])
ARRAYS = settings(max_examples=150, deadline=None)
PERIOD, FRAME = 0.2, 1 / 15


def episode(**faults: Any) -> EpisodeAudit:
    with tempfile.TemporaryDirectory() as folder:
        audit = audit_bag(write_bag(Path(folder) / "bag", Demonstration(**faults)))
    return audit.episodes["e0"]


def levels(audit: EpisodeAudit, check: str) -> dict[str, Level]:
    """The worst level by subject."""
    found: dict[str, Level] = {}
    for finding in audit.findings:
        if finding.check == check:
            found[finding.subject] = max(finding.level, found.get(finding.subject, Level.PASS))
    return found


@BAGS
@given(st.floats(0.0, 3.5), st.floats(0.3, 2.0))
def test_a_hole_in_a_camera(start: float, length: float) -> None:
    audit = episode(keep=lambda n, t: n != "camera wrist" or not start <= t < start + length)
    assert audit.values("gaps")["camera wrist"] == pytest.approx(length + FRAME, abs=1.01 * FRAME)
    gap = audit.values("gaps")["camera wrist"]
    if start > FRAME:
        assert audit.values("lost")["camera wrist"] * 90 == pytest.approx(gap / FRAME - 1, abs=0.6)
    expected = Level.FAIL if gap > 3 * PERIOD + 1e-6 else Level.WARN if gap > PERIOD + 1e-6 else Level.PASS
    assert levels(audit, "gaps")["camera wrist"] is expected
    assert levels(audit, "gaps")["camera primary"] is Level.PASS


@BAGS
@given(st.integers(2, 6))
def test_every_nth_frame_dropped(n: int) -> None:
    audit = episode(keep=lambda name, t: name != "camera primary" or round(t / FRAME) % n != 0)
    assert audit.values("rate")["camera primary"] == pytest.approx(15 * (1 - 1 / n), abs=15 * 0.03)
    assert audit.values("lost")["camera primary"] == pytest.approx(1 / n, abs=0.03)
    share = 1 - 1 / n
    assert levels(audit, "rate")["camera primary"] is (Level.FAIL if share < 0.79 else Level.WARN)


@BAGS
@given(st.floats(0.0, 1.0))
def test_a_stream_that_ends_early_is_slow_and_has_a_gap(end: float) -> None:
    audit = episode(keep=lambda name, t: name != "joint states" or t < 5.0 - end)
    assert audit.values("gaps")["joint states"] == pytest.approx(1.0 + end, abs=0.02)
    assert audit.values("rate")["joint states"] == pytest.approx(125 * (5.0 - end) / 6.0, abs=1.0)


@BAGS
@given(st.floats(0.0, 3.0), st.floats(0.0, 2.5), st.floats(0.0, 2.5))
def test_frozen_and_black_stretches(start: float, frozen: float, black: float) -> None:
    still = np.random.default_rng(0).integers(40, 200, (24, 32, 3)).astype(np.uint8)

    def picture(camera: str, t: float) -> np.ndarray:
        if camera == "primary":
            level = 3 if start <= t < start + black else 100
            return np.full((24, 32, 3), level + round(t / FRAME) % 3, np.uint8)
        if start <= t < start + frozen:
            return still
        return np.random.default_rng(round(t / FRAME)).integers(40, 200, (24, 32, 3)).astype(np.uint8)

    audit = episode(picture=picture, joints=lambda t: np.full(6, 0.2 * t))
    # What stands still for less than half a second is no frozen camera.
    found = 6.0 * audit.values("frozen")["camera wrist"]
    assert found == pytest.approx(frozen, abs=2 * FRAME) or (found == 0.0 and frozen < 0.5 + 2 * FRAME)
    assert 6.0 * audit.values("black")["camera primary"] == pytest.approx(black, abs=1.01 * FRAME)
    assert audit.values("frozen")["camera primary"] == 0.0 == audit.values("black")["camera wrist"]


@BAGS
@given(st.floats(0.01, 0.3), st.floats(0.01, 0.3))
def test_skew_of_cameras_and_joints(camera: float, joints: float) -> None:
    audit = episode(lag={"wrist": camera, "joint state": -joints})
    assert audit.values("skew")["wrist camera"] == pytest.approx(camera, abs=1e-6)
    assert audit.values("skew")["joint state"] == pytest.approx(joints, abs=1e-6)
    assert (levels(audit, "skew")["wrist camera"] is Level.FAIL) is (camera > PERIOD + 1e-6)
    # The frames that were paired are not those on the topic.
    assert levels(audit, "unpaired")["camera primary"] is Level.PASS


@BAGS
@given(st.integers(0, 10), st.integers(0, 10), st.integers(0, 12))
def test_idle_stretches_in_a_bag(head: int, tail: int, middle: int) -> None:
    steps, first = 50, 18

    def busy(t: float) -> bool:
        k = int(t / PERIOD + 1e-6)
        return head <= k < steps - tail and not first <= k < first + middle

    def joints(t: float) -> np.ndarray:
        moving = sum(busy(k * 0.01) for k in range(int(t * 100))) * 0.01
        return np.full(6, 0.2 * moving)

    def action(k: int) -> np.ndarray:
        return np.array([0.01, 0, 0, 0, 0, 0, 1.0]) * (1.0 if busy(k * PERIOD) else np.array([0] * 6 + [1]))

    cached = [joints(k * 0.01) for k in range(1002)]
    audit = episode(seconds=10.0, action=action, joints=lambda t: cached[int(t * 100 + 1e-6)])
    found = audit.values("idle")
    assert found["start"] == pytest.approx(head * PERIOD, abs=PERIOD + 1e-6)
    assert found["end"] == pytest.approx(tail * PERIOD, abs=PERIOD + 1e-6)
    assert found["longest"] == pytest.approx(middle * PERIOD, abs=PERIOD + 1e-6)
    assert found["share"] == pytest.approx((head + tail + middle) / steps, abs=3 / steps)


@BAGS
@given(st.sets(st.integers(1, 28), max_size=8))
def test_missing_steps(gone: set[int]) -> None:
    audit = episode(keep=lambda name, t: name != "actions" or round(t / PERIOD) not in gone)
    assert audit.values("action grid")["missing"] == pytest.approx(len(gone) / 30)
    fails = levels(audit, "action grid")["missing"] is Level.FAIL
    runs = max((len(r) for r in "".join("x" if k in gone else " " for k in range(30)).split()), default=0)
    assert fails is (len(gone) / 30 > 0.05 or runs > 3)


@BAGS
@given(st.integers(0, 30), st.floats(1.01, 3.0))
def test_clipped_steps(count: int, times: float) -> None:
    audit = episode(action=lambda k: np.array([0, 0.05 * times if k < count else 0.01, 0, 0, 0, 0, k % 2]))
    assert audit.values("clipped")["beyond"] == pytest.approx(count / 30)
    audit = episode(action=lambda k: np.array([0, 0, 0, -0.25 if k < count else 0.01, 0, 0, k % 2]))
    assert audit.values("clipped") == {"beyond": 0.0, "at": pytest.approx(count / 30)}


@BAGS
@given(st.integers(10, 80), st.floats(0.01, 2.0))
def test_a_clock_set_back(frame: int, back: float) -> None:
    audit = episode(shift=lambda n, t: t - back if n == "camera wrist" and t >= frame * FRAME else t)
    # Set back by less than a frame, stamps still grow.
    assert (levels(audit, "order").get("camera wrist") is Level.FAIL) is (back > FRAME + 1e-6)
    audit = episode(recorded=lambda n, t: t, shift=lambda n, t: 1.2 * t if n == "observations" else t)
    assert levels(audit, "order")["observations"] is Level.WARN


@ARRAYS
@given(
    st.integers(3, 400), st.floats(0.001, 1.0), st.floats(0.0, 0.45),
    st.integers(0, 2**32 - 1), st.integers(0, 5), st.floats(0.0, 20.0),
)  # fmt: skip
def test_timing_of_stamps(
    count: int, period: float, jitter: float, seed: int, doubles: int, hole: float
) -> None:
    rng = np.random.default_rng(seed)
    offsets = rng.uniform(-jitter, jitter, count) * period / 2
    seconds = np.arange(count) * period + offsets
    cut = int(rng.integers(1, count))
    seconds[cut:] += hole * period
    stamps = np.sort(np.round(seconds * 1e9).astype(np.int64)) + 10**18
    repeated = np.sort(np.concatenate([stamps, rng.choice(stamps, doubles)]))
    found = timing(repeated, repeated, period, 3 * period)
    assert found.count == count + doubles and found.equal == doubles and found.backwards == 0
    assert abs(found.longest_gap - (1 + hole) * period) <= jitter * period + 3e-9 or hole < jitter
    assert found.lost == pytest.approx(hole, abs=1.0 + 1e-6) and found.gaps == (
        found.longest_gap > 3 * period
    )
    clean = timing(stamps, stamps, period, 3 * period)
    assert (count < 6 or clean.jitter[0] <= jitter * period + 2e-9) and clean.pace == pytest.approx(1.0)
    assert clean.rate == pytest.approx((count - 1) / (stamps[-1] - stamps[0]) * 1e9)


@ARRAYS
@given(st.integers(5, 200), st.floats(0.02, 1.0), st.integers(0, 2**32 - 1))
def test_grids_of_actions(count: int, period: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    stamps = np.round(np.arange(count) * period * 1e9).astype(np.int64)
    gone = rng.choice(np.arange(1, count - 1), min(3, count - 2), replace=False)
    found = grid(np.delete(stamps, gone), period, 0.1)
    assert (found.missing, found.steps, found.double, found.off) == (len(gone), count, 0, 0)
    slipped = stamps.copy()
    slipped[count // 2 :] += round(0.3 * period * 1e9)
    assert grid(slipped, period, 0.1).off == 1 and grid(slipped, period, 0.1).missing == 0
    doubled = np.sort(np.append(stamps, stamps[2] + round(0.2 * period * 1e9)))
    assert grid(doubled, period, 0.1).double == 1
    assert grid(stamps[:1], period, 0.1).steps == 1


@ARRAYS
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 40), st.sampled_from([0.05, 0.1, 0.2]))
def test_idle_time_is_measured(head: int, tail: int, busy: int, period: float) -> None:
    count = head + busy + tail
    stamps = np.round(np.arange(count) * period * 1e9).astype(np.int64)
    nothing = np.array([not head <= k < head + busy for k in range(count)])
    end = round(count * period * 1e9)
    found = idle_stretches(
        (0, end), period, stamps, nothing, np.zeros(0, np.int64), np.zeros((0, 6)), AuditRules()
    )
    assert found.leading == pytest.approx(head * period, abs=1e-6)
    assert found.trailing == pytest.approx(tail * period, abs=1e-6)
    assert found.share == pytest.approx((head + tail) / count, abs=1e-6) and found.longest == 0.0
    # Joints that move all the time leave nothing idle, whatever the actions say.
    times = np.arange(0, end, round(0.02 * 1e9))
    moving = np.outer(np.arange(len(times)) * 0.02, np.ones(6))
    assert idle_stretches((0, end), period, stamps, nothing, times, moving, AuditRules()).share == 0.0


def test_a_gripper_that_closes_is_not_idle() -> None:
    stamps = np.arange(0, 4 * 10**9, 200_000_000)
    nothing = np.ones(len(stamps), np.bool_)
    times = np.arange(0, 4 * 10**9, 66_666_667)
    widths = np.interp(times, (10**9, 2 * 10**9), (0.08, 0.02))
    still = np.zeros((len(times), 6))
    found = idle_stretches((0, 4 * 10**9), 0.2, stamps, nothing, times, still, AuditRules(), times, widths)
    assert (found.leading, found.trailing) == pytest.approx((1.0, 2.0), abs=0.2 + 1e-6)
