"""Forward and inverse kinematics and inverse dynamics of the arm, on pinocchio with preallocated data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pinocchio as pin

from vla_ros.errors import ConfigurationError, VlaRosError
from vla_ros.robots.model import build_model, finger_positions, joint_indices
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array, Pose

_ITERATIONS = 150
_PATIENCE = 20
"""Iterations without a tenth less residual after which a start is given up."""
_RESTARTS = 24
_MAX_STEP = 0.4
"""Largest joint step of one iteration [rad]; keeps the linearisation honest."""
_POSTURE_GAIN = 0.05
"""Pull of the null space towards home per iteration, for arms with more joints than the task."""
_POSTURE_ITERATIONS = 40
"""The pull ends here: near a singularity it would slow the convergence down."""


class UnreachableError(VlaRosError):
    """No joint configuration inside the limits reaches the wanted pose."""


class Kinematics:
    """Kinematics of one robot; joint arrays are (n,) in the order of `spec.joint_names`.

    Not thread-safe: one instance a thread.  The fingers are held at `width` [m] (default: open).
    """

    def __init__(self, spec: RobotSpec, width: float | None = None) -> None:
        """Raises `ConfigurationError` when the URDF does not fit the YAML file."""
        full = build_model(spec)
        q = pin.neutral(full)
        opening = spec.gripper.max_width if width is None else width
        q[joint_indices(full, spec.gripper.joint_names)] = finger_positions(spec.gripper, opening)
        locked = [full.getJointId(name) for name in spec.gripper.joint_names]
        self.spec = spec
        self.model = pin.buildReducedModel(full, locked, q)
        if spec.payload.mass > 0.0:
            tool = self.model.frames[self.model.getFrameId(spec.tcp_frame)]
            load = pin.Inertia(spec.payload.mass, spec.payload.centre, np.zeros((3, 3)))
            self.model.appendBodyToJoint(tool.parentJoint, load, tool.placement)
        self._data = self.model.createData()
        self._of: Array | None = None
        order = tuple(self.model.names)[1:]
        if order != spec.joint_names:
            raise ConfigurationError(
                f"{spec.yaml_path}: joint_names must run from base to tool as in the URDF: {', '.join(order)}"
            )
        self._frames = {frame.name: index for index, frame in enumerate(self.model.frames)}
        self._tcp = self._frame_id(spec.tcp_frame)
        self._elbow = self._frame_id(spec.elbow_frame)
        base = self.model.frames[self._frame_id(spec.base_frame)]
        if base.parentJoint != 0 or not base.placement.isIdentity(1e-9):
            raise ConfigurationError(
                f"{spec.yaml_path}: base_frame '{spec.base_frame}' is no root of the URDF"
            )

    def placement(self, q: Array) -> tuple[Array, Array]:
        """Position (3,) [m] and rotation (3, 3) of the TCP in the base frame; the fast form of `forward`."""
        pin.forwardKinematics(self.model, self._data, q)
        tcp = pin.updateFramePlacement(self.model, self._data, self._tcp)
        return tcp.translation.copy(), tcp.rotation.copy()

    def forward(self, q: Array) -> Pose:
        """Pose of the TCP in the base frame."""
        return self._pose(q, self._tcp)

    def forward_frame(self, q: Array, frame: str) -> Pose:
        """Pose of any URDF frame in the base frame; the fingers are where the constructor put them.

        Raises:
            ConfigurationError: the URDF has no such frame.
        """
        return self._pose(q, self._frame_id(frame))

    def _pose(self, q: Array, index: int) -> Pose:
        pin.forwardKinematics(self.model, self._data, q)
        placement = pin.updateFramePlacement(self.model, self._data, index)
        return Pose(placement.translation.copy(), pin.Quaternion(placement.rotation).coeffs())

    def jacobian(self, q: Array) -> Array:
        """(6, n) geometric Jacobian of the TCP along the base axes: linear [m/rad] on top of angular."""
        return np.asarray(
            pin.computeFrameJacobian(self.model, self._data, q, self._tcp, pin.LOCAL_WORLD_ALIGNED)
        )

    def pose_and_jacobian(self, q: Array) -> tuple[Array, Array, Array]:
        """Position (3,), quaternion (4,) and `jacobian` (6, n) of the TCP, at the price of the last.

        Asked again with the same array, which must not have been written to, it answers from memory.
        """
        if q is not self._of:
            jacobian = np.asarray(
                pin.computeFrameJacobian(self.model, self._data, q, self._tcp, pin.LOCAL_WORLD_ALIGNED)
            )
            tcp = self._data.oMf[self._tcp]
            self._answer = tcp.translation.copy(), pin.Quaternion(tcp.rotation).coeffs(), jacobian
            self._of = q
        return self._answer

    def elbow_jacobian(self, q: Array) -> Array:
        """(6, n) as `jacobian`, of the origin of the elbow's frame."""
        return np.asarray(
            pin.computeFrameJacobian(self.model, self._data, q, self._elbow, pin.LOCAL_WORLD_ALIGNED)
        )

    def torques(self, q: Array, velocity: Array, acceleration: Array) -> Array:
        """(n,) joint torques [Nm] of a motion with `spec.payload`, by recursive Newton-Euler."""
        return np.array(pin.rnea(self.model, self._data, q, velocity, acceleration), dtype=np.float64)

    def inverse(self, pose: Pose, q0: Array, tol: float = 1e-5) -> Array:
        """Joint positions inside the applied limits that put the TCP at `pose`.

        Damped least squares from `q0`, then from home and random configurations (the same on every call).
        `tol` bounds the residual in metres and in radians.

        Raises:
            UnreachableError: no start converged, or the pose is not finite.
        """
        if not (np.isfinite(pose.position).all() and np.isfinite(pose.quaternion).all()):
            raise UnreachableError(f"{self.spec.name} cannot reach a pose that is not finite")
        rotation = pin.Quaternion(np.asarray(pose.quaternion, dtype=np.float64)).normalized().matrix()
        position = np.asarray(pose.position, dtype=np.float64)
        best = np.inf
        for start in self._starts(np.asarray(q0, dtype=np.float64)):
            q, residual = self._descend(position, rotation, start, tol)
            if residual <= tol:
                return q
            best = min(best, residual)
        where = ", ".join(f"{value:.3f}" for value in position)
        raise UnreachableError(
            f"{self.spec.name} cannot reach ({where}) m with the wanted orientation inside its joint limits;"
            f" the nearest try was {best:.3g} m or rad off"
        )

    def _frame_id(self, frame: str) -> int:
        if frame not in self._frames:
            raise ConfigurationError(f"{self.spec.urdf_path} has no frame '{frame}'")
        return self._frames[frame]

    def _starts(self, q0: Array) -> Iterator[Array]:
        low, high = self.spec.applied.position_min, self.spec.applied.position_max
        yield np.clip(q0, low, high)
        yield self.spec.home
        random = np.random.default_rng(0)
        for spread in np.linspace(0.2, 1.0, _RESTARTS):
            yield np.clip(self.spec.home + spread * random.uniform(-np.pi, np.pi, self.spec.dof), low, high)

    def _descend(self, position: Array, rotation: Array, start: Array, tol: float) -> tuple[Array, float]:
        """Levenberg-Marquardt with the error as damping (Sugihara 2011); joints at a limit drop out."""
        low, high = self.spec.applied.position_min, self.spec.applied.position_max
        q = start.copy()
        residual = milestone = np.inf
        patience = _PATIENCE
        for iteration in range(_ITERATIONS):
            jacobian = self.jacobian(q)
            tcp = self._data.oMf[self._tcp]
            error = np.concatenate([position - tcp.translation, pin.log3(rotation @ tcp.rotation.T)])
            residual = float(max(np.linalg.norm(error[:3]), np.linalg.norm(error[3:])))
            patience -= 1
            if residual < 0.9 * milestone:
                milestone, patience = residual, _PATIENCE
            if residual <= tol or patience == 0:
                break
            posture = _POSTURE_GAIN * (self.spec.home - q) if iteration < _POSTURE_ITERATIONS else 0.0 * q
            step = self._step(jacobian, error, posture)
            blocked = ((q <= low) & (step < 0.0)) | ((q >= high) & (step > 0.0))
            if blocked.any():
                step = self._step(jacobian * ~blocked, error, posture * ~blocked)
            step *= min(1.0, _MAX_STEP / max(float(np.abs(step).max()), 1e-12))
            q = np.clip(q + step, low, high)
        return q, residual

    def _step(self, jacobian: Array, error: Array, posture: Array) -> Array:
        damping = 0.5 * float(error @ error) + 1e-8
        square = jacobian @ jacobian.T + damping * np.eye(6)
        solved = np.linalg.solve(square, np.column_stack([error, jacobian @ posture]))
        step = jacobian.T @ solved[:, 0]
        if self.spec.dof > 6:
            step = step + posture - jacobian.T @ solved[:, 1]
        return np.asarray(step)
