"""Kinematics against independent chains, example-robot-data and finite differences."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from robot_chains import forward as chain_forward
from scipy.spatial.transform import Rotation

from vla_ros.errors import ConfigurationError
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics, UnreachableError
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Pose

ROBOTS = ["fr3", "panda", "ur5", "ur5e", "widowx"]
APPROACH = {"widowx": np.array([1.0, 0.0, 0.0])}
"""Axis of the TCP frame along the gripper; z where not named."""


@cache
def _kinematics(name: str) -> Kinematics:
    return Kinematics(load_robot(name))


def _random(robot: RobotSpec, count: int, seed: int = 0) -> np.ndarray:
    low, high = robot.published.position_min, robot.published.position_max
    return np.random.default_rng(seed).uniform(low, high, (count, robot.dof))


@st.composite
def _robot_and_joints(draw: st.DrawFn, inset: float = 0.0) -> tuple[str, np.ndarray]:
    name = draw(st.sampled_from(ROBOTS))
    robot = load_robot(name)
    share = draw(st.lists(st.floats(inset, 1.0 - inset), min_size=robot.dof, max_size=robot.dof))
    low, high = robot.applied.position_min, robot.applied.position_max
    return name, low + (high - low) * np.array(share)


@pytest.mark.parametrize("name", ROBOTS)
def test_forward_equals_the_makers_chain(name: str) -> None:
    kinematics = _kinematics(name)
    for q in _random(kinematics.spec, 200):
        position, rotation = chain_forward(name, q)
        pose = kinematics.forward(q)
        np.testing.assert_allclose(pose.position, position, atol=1e-9)
        error = Rotation.from_quat(pose.quaternion) * Rotation.from_matrix(rotation).inv()
        assert error.magnitude() < 1e-7
        np.testing.assert_allclose(kinematics.placement(q)[0], position, atol=1e-9)
        np.testing.assert_allclose(kinematics.placement(q)[1], rotation, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "file", "frame", "theirs"),
    [
        ("panda", "panda_description/urdf/panda.urdf", "panda_link8", "panda_link8"),
        ("ur5", "ur_description/urdf/ur5_robot.urdf", "tool0", "tool0"),
    ],
)
def test_forward_equals_example_robot_data(name: str, file: str, frame: str, theirs: str) -> None:
    try:
        wheel = distribution("example-robot-data")
    except PackageNotFoundError:
        pytest.skip("example-robot-data is not installed (a test-only extra)")
    path = Path(str(wheel.locate_file("cmeel.prefix/share/example-robot-data/robots"))) / file
    model = pin.buildModelFromUrdf(str(path))
    data = model.createData()
    kinematics = _kinematics(name)
    indices = [model.joints[model.getJointId(joint)].idx_q for joint in kinematics.spec.joint_names]
    # The ROS 1 description of the UR5 has no base_link_inertia: its base_link is REP-103 too.
    for q in _random(kinematics.spec, 200, seed=1):
        full = pin.neutral(model)
        full[indices] = q
        pin.framesForwardKinematics(model, data, full)
        expected = data.oMf[model.getFrameId(theirs)]
        pose = kinematics.forward_frame(q, frame)
        np.testing.assert_allclose(pose.position, expected.translation, atol=1e-6)
        error = Rotation.from_quat(pose.quaternion) * Rotation.from_matrix(expected.rotation).inv()
        assert error.magnitude() < 1e-6


@given(_robot_and_joints())
@settings(max_examples=60, deadline=None)
def test_jacobian_equals_finite_differences(sample: tuple[str, np.ndarray]) -> None:
    name, q = sample
    kinematics = _kinematics(name)
    jacobian = kinematics.jacobian(q)
    assert jacobian.shape == (6, len(q))
    step = 1e-6
    for joint in range(len(q)):
        nudge = np.zeros(len(q))
        nudge[joint] = step
        before, rotation_before = chain_forward(name, q - nudge)
        after, rotation_after = chain_forward(name, q + nudge)
        np.testing.assert_allclose(jacobian[:3, joint], (after - before) / (2 * step), atol=1e-7)
        turn = Rotation.from_matrix(rotation_after @ rotation_before.T).as_rotvec()
        np.testing.assert_allclose(jacobian[3:, joint], turn / (2 * step), atol=1e-7)


# Not with several joints exactly on their limits: there descent along the limits may stall.
@given(_robot_and_joints(inset=0.03), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_inverse_of_forward_is_the_pose_inside_the_limits(sample: tuple[str, np.ndarray], seed: int) -> None:
    name, q = sample
    kinematics = _kinematics(name)
    robot = kinematics.spec
    start = q + np.random.default_rng(seed).uniform(-0.15, 0.15, robot.dof)
    solution = kinematics.inverse(kinematics.forward(q), start, tol=1e-5)
    assert (solution >= robot.applied.position_min).all()
    assert (solution <= robot.applied.position_max).all()
    wanted, reached = kinematics.placement(q), kinematics.placement(solution)
    assert np.linalg.norm(wanted[0] - reached[0]) <= 1.001e-5
    assert Rotation.from_matrix(wanted[1] @ reached[1].T).magnitude() <= 1.001e-5


def test_unreachable_is_one_sentence() -> None:
    kinematics = _kinematics("panda")
    home = kinematics.spec.home
    down = kinematics.forward(home).quaternion
    with pytest.raises(UnreachableError, match=r"panda cannot reach \(1.500, 0.000, 0.200\) m"):
        kinematics.inverse(Pose(np.array([1.5, 0.0, 0.2]), down), home)
    with pytest.raises(UnreachableError, match="not finite"):
        kinematics.inverse(Pose(np.array([np.nan, 0.0, 0.2]), down), home)


def test_unknown_frame_is_refused() -> None:
    kinematics = _kinematics("panda")
    with pytest.raises(ConfigurationError, match=r"panda\.urdf has no frame 'nowhere'"):
        kinematics.forward_frame(kinematics.spec.home, "nowhere")


@pytest.mark.parametrize("name", ROBOTS)
def test_home_points_straight_down_in_front_of_the_robot(name: str) -> None:
    kinematics = _kinematics(name)
    robot = kinematics.spec
    position, rotation = kinematics.placement(robot.home)
    approach = rotation @ APPROACH.get(name, np.array([0.0, 0.0, 1.0]))
    assert np.arccos(np.clip(-approach[2], -1.0, 1.0)) < 1e-3
    assert 0.2 <= position[2] <= 0.3
    assert (robot.workspace.minimum < position).all()
    assert (position < robot.workspace.maximum).all()
    assert abs(position[1]) < 1e-3
    slack = np.minimum(robot.home - robot.applied.position_min, robot.applied.position_max - robot.home)
    assert slack.min() > 0.2
    assert np.linalg.cond(kinematics.jacobian(robot.home)) < 15.0
    elbow = kinematics.forward_frame(robot.home, robot.elbow_frame).position
    assert elbow[2] > position[2] + 0.05


@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize("width", [0.0, 0.5, 1.0])
def test_finger_tips_are_the_width_apart_about_the_tcp(name: str, width: float) -> None:
    robot = load_robot(name)
    opening = robot.gripper.min_width + width * (robot.gripper.max_width - robot.gripper.min_width)
    kinematics = Kinematics(robot, opening)
    left, right = (
        kinematics.forward_frame(robot.home, frame).position for frame in robot.gripper.finger_frames
    )
    assert np.linalg.norm(left - right) == pytest.approx(opening, abs=1e-9)
    tcp = kinematics.forward(robot.home).position
    np.testing.assert_allclose((left + right)[:2] / 2, tcp[:2], atol=1e-4)
    assert 0.005 < tcp[2] - left[2] < 0.012  # the tips reach just past the TCP


REACHED = {
    # lower and upper corner of the area that must be fully reachable with the tool down
    "panda": ((0.32, -0.2, 0.03), (0.62, 0.2, 0.3)),
    "fr3": ((0.36, -0.2, 0.03), (0.66, 0.2, 0.3)),
    "ur5": ((0.30, -0.2, 0.03), (0.60, 0.2, 0.3)),
    "ur5e": ((0.30, -0.2, 0.03), (0.60, 0.2, 0.3)),
    # 0.5 m of arm less 0.16 m of gripper pointing down: nothing deeper is within reach.
    "widowx": ((0.13, -0.2, 0.03), (0.38, 0.2, 0.2)),
}


@pytest.mark.parametrize("name", ROBOTS)
def test_tabletop_is_reached_with_the_tool_down(name: str) -> None:
    kinematics = _kinematics(name)
    robot = kinematics.spec
    down = kinematics.forward(robot.home).quaternion
    low, high = REACHED[name]
    assert (np.array(low) > robot.workspace.minimum).all()
    assert (np.array(high) < robot.workspace.maximum).all()
    grid = np.stack(np.meshgrid(*(np.linspace(a, b, 5) for a, b in zip(low, high, strict=True))), -1)
    for point in grid.reshape(-1, 3):
        kinematics.inverse(Pose(point, down), robot.home)


@pytest.mark.parametrize("name", ROBOTS)
def test_static_torques_balance_gravity(name: str) -> None:
    """At rest the torques are the gradient of the potential energy, and within the published ones."""
    kinematics = _kinematics(name)
    robot = kinematics.spec
    zero = np.zeros(robot.dof)
    torques = kinematics.torques(robot.home, zero, zero)
    data = kinematics.model.createData()
    step = 1e-5
    for joint in range(robot.dof):
        nudge = np.zeros(robot.dof)
        nudge[joint] = step
        higher = pin.computePotentialEnergy(kinematics.model, data, robot.home + nudge)
        lower = pin.computePotentialEnergy(kinematics.model, data, robot.home - nudge)
        assert torques[joint] == pytest.approx((higher - lower) / (2 * step), abs=1e-5)
    assert (np.abs(torques) < 0.8 * robot.published.torque).all()
