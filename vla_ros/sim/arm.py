"""The robot in MuJoCo: which links collide, its position servos, its gripper."""

from __future__ import annotations

import mujoco
import numpy as np

from vla_ros.errors import ConfigurationError
from vla_ros.robots.spec import RobotSpec
from vla_ros.types import Array

SERVO_BANDWIDTH = 100.0
"""Natural frequency of the joint position servos [rad/s]; critically damped."""
ROTOR_INERTIA_PER_TORQUE = 0.002
"""Inertia of rotor and gears at the joint, per newton metre of the joint's torque [kg m^2 / (N m)]."""
FINGER_INERTIA = 0.1
"""The gripper's motor as seen at a finger [kg]."""
FINGER_STIFFNESS = 1.0e4
"""Stiffness of the finger servos: full force at a few millimetres [N/m]."""
PAD_FRICTION = (1.5, 0.02, 0.0005)
PAD_SOLREF = (0.004, 1.0)
PAD_SOLIMP = (0.97, 0.995, 0.0005)
"""Hard enough that full grip presses a block by less than a millimetre."""
ROBOT_BIT = 2
"""Collision bit of the robot; nothing of the robot answers to it, so links never collide with each other."""

_SAMPLES = 64


def finger_levers(spec: RobotSpec) -> Array:
    """Joint motion per opening of one finger, (fingers,): +-1 for sliding fingers, rad/m for knuckles."""
    gripper = spec.gripper
    travel = 0.5 * (gripper.max_width - gripper.min_width)
    return np.asarray((gripper.joint_at_max_width - gripper.joint_at_min_width) / travel, dtype=np.float64)


def finger_positions(spec: RobotSpec, width: float) -> Array:
    """Finger joint positions for an opening width [m], shape (fingers,)."""
    gripper = spec.gripper
    return np.asarray(
        gripper.joint_at_min_width + 0.5 * (width - gripper.min_width) * finger_levers(spec), dtype=np.float64
    )


def opening_width(spec: RobotSpec, positions: Array) -> float:
    """Opening width [m] of finger joint positions (fingers,)."""
    gripper = spec.gripper
    opened = (positions - gripper.joint_at_min_width) / finger_levers(spec)
    return float(gripper.min_width + 2.0 * np.mean(opened))


def flange_body(mj_spec: mujoco.MjSpec, spec: RobotSpec) -> mujoco.MjsBody:
    """The frame the gripper is bolted to: the last massless body between last arm joint and fingers.

    Raises `ConfigurationError` where the fingers are not on the arm.
    """
    last = mj_spec.joint(spec.joint_names[-1]).parent
    chain = [mj_spec.joint(spec.gripper.joint_names[0]).parent]
    while chain[-1].name != last.name:
        if chain[-1].parent is None:
            raise ConfigurationError(
                f"{spec.urdf_path}: finger joint '{spec.gripper.joint_names[0]}' is not carried by the arm's "
                f"last joint '{spec.joint_names[-1]}'"
            )
        chain.append(chain[-1].parent)
    chain.reverse()
    flange = chain[0]
    for body in chain[1:]:
        if body.geoms or body.mass > 0.0:
            break
        flange = body
    return flange


def prepare_robot(mj_spec: mujoco.MjSpec, spec: RobotSpec) -> None:
    """Collision bits, weightlessness, rotor inertia, actuators and the flange's force-torque sensor."""
    fingers = {mj_spec.joint(name).parent.name for name in spec.gripper.joint_names}
    for body in mj_spec.bodies:
        if body.name == "world":
            continue
        body.gravcomp = 1.0
        for geom in body.geoms:
            geom.contype, geom.conaffinity = ROBOT_BIT, 0
            if body.name in fingers:
                geom.friction, geom.condim, geom.priority = PAD_FRICTION, 4, 1
                geom.solref[:2], geom.solimp[:3] = PAD_SOLREF, PAD_SOLIMP
    for name, torque in zip(spec.joint_names, spec.published.torque, strict=True):
        mj_spec.joint(name).armature = ROTOR_INERTIA_PER_TORQUE * torque
        mj_spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT).set_to_position(
            kp=1.0, kv=1.0
        )
    for name, lever in zip(spec.gripper.joint_names, finger_levers(spec), strict=True):
        mj_spec.joint(name).armature = FINGER_INERTIA / lever**2
        stiffness = FINGER_STIFFNESS / lever**2
        damping = 2.0 * np.sqrt(FINGER_STIFFNESS * FINGER_INERTIA) / lever**2
        force = spec.gripper.max_force / abs(lever)
        actuator = mj_spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=stiffness, kv=damping)
        actuator.forcelimited, actuator.forcerange = True, [-force, force]
    _couple_fingers(mj_spec, spec)
    flange = flange_body(mj_spec, spec)
    flange.add_site(name="flange", group=5)
    for kind, name in ((mujoco.mjtSensor.mjSENS_FORCE, "force"), (mujoco.mjtSensor.mjSENS_TORQUE, "torque")):
        mj_spec.add_sensor(name=name, type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname="flange")


def _couple_fingers(mj_spec: mujoco.MjSpec, spec: RobotSpec) -> None:
    """Each further finger follows the first linearly, as the gripper's gears make it do."""
    levers, closed = finger_levers(spec), spec.gripper.joint_at_min_width
    for index, name in enumerate(spec.gripper.joint_names[1:], start=1):
        slope = levers[index] / levers[0]
        equality = mj_spec.add_equality(
            type=mujoco.mjtEq.mjEQ_JOINT,
            objtype=mujoco.mjtObj.mjOBJ_JOINT,
            name1=name,
            name2=spec.gripper.joint_names[0],
        )
        equality.data[:5] = [closed[index] - slope * closed[0], slope, 0.0, 0.0, 0.0]


def tune_servos(model: mujoco.MjModel, spec: RobotSpec) -> None:
    """Gains from inertia: kp = M w^2, kv = 2 M w with M the largest joint inertia over sampled poses."""
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    limits = spec.applied
    poses = np.vstack(
        [spec.home, rng.uniform(limits.position_min, limits.position_max, (_SAMPLES, spec.dof))]
    )
    addresses = [model.joint(name).qposadr[0] for name in spec.joint_names]
    columns = [model.joint(name).dofadr[0] for name in spec.joint_names]
    inertia = np.zeros(spec.dof)
    for pose in poses:
        data.qpos[addresses] = pose
        mujoco.mj_forward(model, data)
        for index, column in enumerate(columns):
            unit, product = np.zeros(model.nv), np.zeros(model.nv)
            unit[column] = 1.0
            mujoco.mj_mulM(model, data, product, unit)
            inertia[index] = max(inertia[index], product[column])
    for name, mass in zip(spec.joint_names, inertia, strict=True):
        actuator = model.actuator(name).id
        stiffness, damping = mass * SERVO_BANDWIDTH**2, 2.0 * mass * SERVO_BANDWIDTH
        model.actuator_gainprm[actuator, 0] = stiffness
        model.actuator_biasprm[actuator, 1:3] = -stiffness, -damping
