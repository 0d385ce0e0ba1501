"""Screening, joint memory and pairing of inputs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.ingest import FrameRules, FrameScreen, JointBuffer, Pairer, Rejection, gripper_width_of
from vla_ros.robots import load_robot
from vla_ros.robots.spec import CameraSpec
from vla_ros.types import CameraImage, JointState, Pose

MS = 1_000_000
IDENTITY = Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
CAMERA = CameraSpec("primary", "base", IDENTITY, 1.0, 12, 8, 15.0, "/camera/primary")
TEXTURE = np.random.default_rng(0).integers(50, 255, (8, 12, 3), dtype=np.uint8)


def frame(stamp: int, rgb: np.ndarray | None = None) -> CameraImage:
    return CameraImage(stamp, np.roll(TEXTURE, stamp // MS % 97, axis=1) if rgb is None else rgb)


def joint_state(stamp: int, *positions: float) -> JointState:
    return JointState(stamp, np.array(positions), np.zeros(0), np.zeros(0))


@given(st.integers(-2000, 2000))
def test_age_decides_between_future_stale_and_good(age_ms: int) -> None:
    verdict = FrameScreen(CAMERA, FrameRules()).judge(frame(5000 * MS), (5000 + age_ms) * MS, None)
    wanted = Rejection.FUTURE if age_ms < -20 else Rejection.STALE if age_ms > 200 else None
    assert (verdict and verdict[0]) == wanted
    if verdict:
        assert "/camera/primary" in verdict[1] and verdict[1].endswith((".", "?"))


@given(st.lists(st.integers(0, 30), min_size=2, max_size=20))
def test_only_newer_frames_pass(stamps: list[int]) -> None:
    screen = FrameScreen(CAMERA, FrameRules(max_age=10.0, max_future=10.0))
    newest = -1
    for stamp in stamps:
        verdict = screen.judge(frame(stamp * MS), 0, None)
        if stamp > newest:
            assert verdict is None
            newest = stamp
        else:
            assert verdict is not None
            assert verdict[0] == (Rejection.DUPLICATE if stamp == newest else Rejection.OUT_OF_ORDER)


def test_size_and_darkness() -> None:
    screen = FrameScreen(CAMERA, FrameRules())
    wrong = screen.judge(CameraImage(1, np.full((12, 8, 3), 99, np.uint8)), 1, None)
    assert wrong is not None and wrong[0] is Rejection.WRONG_SIZE
    assert "8 x 12" in wrong[1] and "12 x 8" in wrong[1] and "/camera/primary" in wrong[1]
    dark = screen.judge(CameraImage(2, np.full((8, 12, 3), 7, np.uint8)), 2, None)
    assert dark is not None and dark[0] is Rejection.BLACK


@pytest.mark.parametrize(("speed", "frozen"), [(0.0, False), (0.02, False), (0.2, True)])
def test_a_still_picture_is_frozen_only_when_joints_move(speed: float, frozen: bool) -> None:
    screen = FrameScreen(CAMERA, FrameRules())
    verdicts = []
    for step in range(20):
        stamp = step * 100 * MS
        verdicts.append(screen.judge(frame(stamp, TEXTURE), stamp, np.array([speed * step * 0.1, 0.0])))
    assert all(verdict is None for verdict in verdicts[:11])
    assert (verdicts[-1] is not None) == frozen
    if verdicts[-1] is not None:
        assert verdicts[-1][0] is Rejection.FROZEN
        assert screen.judge(frame(1950 * MS), 1950 * MS, np.array([9.0, 0.0])) is None


@given(
    st.lists(st.integers(1, 200), min_size=2, max_size=30),
    st.floats(-1, 1),
    st.floats(-3, 3),
    st.floats(0, 1),
)
def test_interpolation_is_exact_on_a_line(
    steps: list[int], slope: float, offset: float, where: float
) -> None:
    stamps = np.cumsum(steps) * MS
    buffer = JointBuffer(span=60.0)
    for stamp in stamps:
        assert buffer.add(joint_state(int(stamp), offset + slope * stamp * 1e-9))
    stamp = int(stamps[0] + where * (stamps[-1] - stamps[0]))
    state = buffer.at(stamp)
    assert state is not None and state.stamp in (stamp, int(stamps[0]), int(stamps[-1]))
    np.testing.assert_allclose(state.positions, [offset + slope * stamp * 1e-9], atol=1e-9)


def test_joints_beyond_the_ends_and_old_ones() -> None:
    buffer = JointBuffer(span=1.0, tolerance=0.05)
    assert buffer.at(0) is None and buffer.newest is None
    buffer.add(joint_state(1000 * MS, 1.0))
    assert not buffer.add(joint_state(1000 * MS, 2.0)) and not buffer.add(joint_state(900 * MS, 2.0))
    near = buffer.at(1049 * MS)
    assert near is not None and near.positions[0] == 1.0
    assert buffer.at(1051 * MS) is None and buffer.at(949 * MS) is None
    buffer.add(joint_state(2500 * MS, 3.0))
    assert buffer.at(1000 * MS) is None


@given(st.floats(0, 1), st.sampled_from(["panda", "widowx", "ur5"]))
def test_gripper_width_is_linear_between_its_ends(share: float, name: str) -> None:
    spec = load_robot(name)
    ends = spec.driver.gripper
    reported = ends["state_at_min_width"] + share * (ends["state_at_max_width"] - ends["state_at_min_width"])
    wanted = spec.gripper.min_width + share * (spec.gripper.max_width - spec.gripper.min_width)
    assert gripper_width_of(reported, spec) == pytest.approx(wanted, abs=1e-9)


def pairer(*cameras: str, period: float = 0.1) -> Pairer:
    buffer = JointBuffer(span=100.0)
    buffer.add(joint_state(0, 0.0))
    buffer.add(joint_state(100_000 * MS, 100.0))
    return Pairer(cameras, period, buffer, lambda joints: Pose(joints[[0, 0, 0]], IDENTITY.quaternion))


@given(st.integers(-49, 49), st.randoms())
def test_regular_cameras_pair_every_frame_with_its_nearest(phase_ms: int, random: object) -> None:
    pair = pairer("primary", "wrist")
    arrivals = [(1000 + 100 * k + 7, "primary", 1000 + 100 * k) for k in range(20)]
    arrivals += [(1000 + 100 * k + phase_ms + 5, "wrist", 1000 + 100 * k + phase_ms) for k in range(20)]
    made = []
    for _, camera, stamp in sorted(arrivals):
        observation, rejected = pair.add(camera, frame(stamp * MS), 0.04)
        assert rejected is None
        made += [observation] if observation else []
    assert [o.stamp // MS for o in made] == [1000 + 100 * k for k in range(20)]
    assert [o.sequence for o in made] == list(range(1, 21))
    for o in made:
        assert list(o.images) == ["primary", "wrist"]
        assert o.images["wrist"].stamp - o.stamp == phase_ms * MS
        np.testing.assert_allclose(o.joints.positions, [o.stamp * 1e-9])
        np.testing.assert_allclose(o.tcp_pose.position, o.joints.positions[[0, 0, 0]])


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 150)), max_size=60))
def test_pairs_are_never_skewed_and_every_primary_frame_is_accounted_for(
    arrivals: list[tuple[bool, int]],
) -> None:
    pair = pairer("primary", "wrist")
    stamp, primaries, seen = 0, 0, Counter[str]()
    for is_primary, step in arrivals:
        stamp += step * MS
        primaries += is_primary
        observation, rejected = pair.add("primary" if is_primary else "wrist", frame(stamp), 0.04)
        if observation:
            seen["made"] += 1
            assert abs(observation.images["wrist"].stamp - observation.stamp) <= 50 * MS
        seen["skewed"] += rejected is Rejection.SKEWED
    assert primaries - seen["made"] - seen["skewed"] in (0, 1)


def test_no_observation_without_joints_or_gripper() -> None:
    empty = Pairer(("primary",), 0.1, JointBuffer(), lambda joints: IDENTITY)
    assert empty.add("primary", frame(MS), 0.04) == (None, Rejection.NO_JOINT_STATE)
    assert pairer("primary").add("primary", frame(MS), None) == (None, Rejection.NO_GRIPPER_STATE)
