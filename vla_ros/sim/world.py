"""The simulated world: robot, objects, judge and cameras, stepped in process and without middleware."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import mujoco
import numpy as np

from vla_ros.actions import rotations
from vla_ros.errors import ActionError, ConfigurationError
from vla_ros.robots.spec import CameraSpec, RobotSpec
from vla_ros.sim.arm import finger_levers, finger_positions, opening_width
from vla_ros.sim.drivers import Driver, make_driver
from vla_ros.sim.judge import BlockState, Judge, Verdict
from vla_ros.sim.objects import COLOURS, block_name, plate_name
from vla_ros.sim.render import Renderer, make_renderer
from vla_ros.sim.scene import PARKING, build_scene
from vla_ros.sim.tasks import Task, make_task
from vla_ros.types import Array, Image, Pose

SCENE_ATTEMPTS = 50
JUDGE_RATE = 50.0
"""Looks of the judge a second of simulated time [Hz]."""
NO_ROOM = "The arm leaves no room for the objects on the table; move it up and try again."


def scenes(spec: RobotSpec, task: str, instruction: str, seed: int) -> Iterator[Task]:
    """Scenes for one seed and goal, first the one the seed stands for.  Raises what `make_task` raises."""
    for attempt in range(SCENE_ATTEMPTS):
        yield make_task(task, instruction, seed, spec, attempt)


class World:
    """One robot at one table.

    Nothing here keeps time: `step` advances as fast as the machine can.  Not safe for concurrent use; the
    simulator node holds a lock around it and renders from `snapshot`.

    Raises what `make_task`, `build_scene` and `make_driver` raise.
    """

    def __init__(
        self,
        spec: RobotSpec,
        task: str | Task = "pick",
        seed: int = 0,
        instruction: str = "",
        timestep: float = 0.001,
        cameras: Mapping[str, CameraSpec] | None = None,
        renderer: str = "auto",
        driver: Driver | None = None,
    ) -> None:
        self.spec = spec
        self.cameras = dict(spec.cameras if cameras is None else cameras)
        self.model = build_scene(spec, self.cameras, timestep)
        self.data = mujoco.MjData(self.model)
        self._renderer_kind = renderer
        self._renderer: Renderer | None = None
        self.driver = make_driver(spec) if driver is None else driver
        """What commands go through; by default one that follows whatever it is sent."""
        self._index()
        self._judge_period = max(1, round(1.0 / (JUDGE_RATE * timestep)))
        self.reset(task, seed, instruction, keep_arm=False)

    def _index(self) -> None:
        """Addresses in MuJoCo's arrays."""
        model, spec = self.model, self.spec
        fingers = spec.gripper.joint_names
        self._q = np.array([model.joint(name).qposadr[0] for name in spec.joint_names])
        self._v = np.array([model.joint(name).dofadr[0] for name in spec.joint_names])
        self._u = np.array([model.actuator(name).id for name in spec.joint_names])
        self._finger_q = np.array([model.joint(name).qposadr[0] for name in fingers])
        self._finger_v = np.array([model.joint(name).dofadr[0] for name in fingers])
        self._finger_u = np.array([model.actuator(name).id for name in fingers])
        self._finger_bodies = {int(model.jnt_bodyid[model.joint(name).id]) for name in fingers}
        self._blocks = {colour: model.body(block_name(colour)).id for colour in COLOURS}
        damping = model.dof_damping[self._v] - model.actuator_biasprm[self._u, 2]
        self._armature = model.dof_armature[self._v].copy()
        self._lead = damping / model.actuator_gainprm[self._u, 0] - model.opt.timestep
        self._flange = model.site("flange").id
        self._force = model.sensor("force").adr[0]
        self._torque = model.sensor("torque").adr[0]

    # ---- episodes

    def reset(
        self,
        task: str | Task = "",
        seed: int = 0,
        instruction: str = "",
        keep_arm: bool = True,
        joints: Array | None = None,
    ) -> Task:
        """New objects and a new goal; the arm stays where it is, or jumps home when `keep_arm` is false.

        `joints`: where it jumps to instead of home (n,) [rad].

        Where a kept arm would stand inside an object, the objects are drawn anew.  Raises what `scenes`
        raises; the world is then unchanged.
        """
        candidates = iter([task]) if isinstance(task, Task) else scenes(self.spec, task, instruction, seed)
        candidate = next(candidates)
        if not keep_arm:
            self._home_arm(self.spec.home if joints is None else joints)
        while not self.adopt(candidate):
            following = next(candidates, None)
            if following is None:
                raise ConfigurationError(NO_ROOM)
            candidate = following
        return candidate

    def adopt(self, task: Task) -> bool:
        """Make `task` the scene and start judging it; false, and no change, where the arm is in its way."""
        data = self.data
        before = data.qpos.copy(), data.qvel.copy(), data.mocap_pos.copy(), self.model.body_gravcomp.copy()
        self._place(task)
        mujoco.mj_forward(self.model, data)
        if self._touched():
            data.qpos, data.qvel, data.mocap_pos, self.model.body_gravcomp = before
            mujoco.mj_forward(self.model, data)
            return False
        self.task = task
        self._judge = Judge(task, data.time)
        self._steps = 0
        return True

    def _home_arm(self, joints: Array) -> None:
        spec, data = self.spec, self.data
        mujoco.mj_resetData(self.model, data)
        data.qpos[self._q] = joints
        data.qpos[self._finger_q] = spec.gripper.joint_at_max_width
        self.driver.reset(joints)
        self._target = np.array(joints)
        self._effort, self._efforts = np.zeros(spec.dof), 0
        self._mean_effort: Array = np.zeros(spec.dof)
        self._width_goal = self._width_target = spec.gripper.max_width
        self.set_gripper(spec.gripper.max_width)

    def _place(self, task: Task) -> None:
        model, data = self.model, self.data
        scene = {block.colour: block for block in task.blocks}
        for slot, (colour, body) in enumerate(self._blocks.items()):
            joint = model.joint(block_name(colour))
            address, velocity = joint.qposadr[0], joint.dofadr[0]
            block = scene.get(colour)
            position, yaw = (
                ([0.2 * slot, 0.0, PARKING], 0.0) if block is None else (block.position, block.yaw)
            )
            data.qpos[address : address + 3] = position
            data.qpos[address + 3 : address + 7] = [np.cos(0.5 * yaw), 0.0, 0.0, np.sin(0.5 * yaw)]
            data.qvel[velocity : velocity + 6] = 0.0
            # A parked block floats without weight below the floor.
            model.body_gravcomp[body] = 1.0 if block is None else 0.0
        plates = {plate.colour: plate for plate in task.plates}
        for slot, colour in enumerate(COLOURS):
            mocap = int(model.body(plate_name(colour)).mocapid[0])
            plate = plates.get(colour)
            data.mocap_pos[mocap] = [0.2 * slot, 1.0, PARKING] if plate is None else plate.position

    # ---- commands

    def set_joint_command(self, positions: Array) -> None:
        """What the driver is told, (n,) [rad].  Raises `ActionError` when it is malformed."""
        self.driver.command(positions, self.data.time)

    def set_gripper(self, width: float, force: float | None = None, speed: float | None = None) -> None:
        """Move the fingers to an opening `width` [m] with at most `force` [N] and `speed` [m/s].

        All are clamped to what the gripper can do, which is also the default of force and speed.
        Raises `ActionError` when one is not a number.
        """
        gripper = self.spec.gripper
        force = gripper.max_force if force is None else force
        speed = gripper.speed if speed is None else speed
        if not (np.isfinite(width) and np.isfinite(force) and np.isfinite(speed)):
            raise ActionError(
                f"A gripper command has width {width}, force {force} and speed {speed}; all must be numbers."
            )
        self._width_speed = float(np.clip(speed, 0.0, gripper.speed))
        self._width_goal = float(np.clip(width, gripper.min_width, gripper.max_width))
        cap = float(np.clip(force, 0.0, gripper.max_force)) / np.abs(finger_levers(self.spec))
        self.model.actuator_forcerange[self._finger_u] = np.stack([-cap, cap], axis=1)

    def step(self, count: int = 1) -> None:
        """Advance by `count` time steps."""
        model, data, timestep = self.model, self.data, self.model.opt.timestep
        stride = self._width_speed * timestep
        for _ in range(count):
            target = self.driver.tick(data.time + timestep)
            # The target is that of the step's end.  Damping of servo and joint is made up for by leading the
            # target by damping / kp times its velocity.
            data.ctrl[self._u] = target + self._lead * (target - self._target) / timestep
            self._target = target
            self._width_target += float(np.clip(self._width_goal - self._width_target, -stride, stride))
            data.ctrl[self._finger_u] = finger_positions(self.spec, self._width_target)
            mujoco.mj_step(model, data)
            # what a sensor at the joint's output side feels: not what accelerates the rotor
            self._effort += data.qfrc_actuator[self._v] + data.qfrc_gravcomp[self._v]
            self._effort -= self._armature * data.qacc[self._v]
            self._efforts += 1
            self._steps += 1
            if self._steps % self._judge_period == 0:
                self._judge.update(data.time, self.block_states())

    # ---- what the robot reports

    @property
    def sim_time(self) -> float:
        """Simulated seconds since the arm was last put home."""
        return float(self.data.time)

    def joint_state(self) -> tuple[Array, Array, Array]:
        """Positions [rad], velocities [rad/s] and efforts [N m] of the arm joints, each (n,).

        Efforts are those at the joints' output side, the mean since the last call, as sensors filter them.
        """
        data = self.data
        if self._efforts:
            self._mean_effort = self._effort / self._efforts
            self._effort, self._efforts = np.zeros(self.spec.dof), 0
        return data.qpos[self._q].copy(), data.qvel[self._v].copy(), self._mean_effort

    def joint_positions(self) -> Array:
        """Measured positions (n,) [rad]."""
        return np.asarray(self.data.qpos[self._q], dtype=np.float64).copy()

    def joint_target(self) -> Array:
        """Where the servos are told to be (n,) [rad]."""
        return self._target

    def gripper_width(self) -> float:
        """Measured opening [m]."""
        return opening_width(self.spec, self.data.qpos[self._finger_q])

    def finger_positions(self) -> Array:
        """Measured finger joints of the URDF, (fingers,)."""
        return np.asarray(self.data.qpos[self._finger_q], dtype=np.float64)

    def gripper_speed(self) -> float:
        """Measured opening speed [m/s]."""
        return float(2.0 * np.mean(self.data.qvel[self._finger_v] / finger_levers(self.spec)))

    def gripper_force(self) -> float:
        """Largest closing force of a finger [N], as the drive exerts it, also against its own stops."""
        force = -self.data.actuator_force[self._finger_u] * np.sign(finger_levers(self.spec))
        return float(np.max(force * np.abs(finger_levers(self.spec))))

    def wrench(self) -> Array:
        """External force [N] and torque [N m] on the tool, (6,), flange frame, without the tool's weight."""
        data, model = self.data, self.model
        body = model.site_bodyid[self._flange]
        rotation = data.site_xmat[self._flange].reshape(3, 3)
        weight = model.body_subtreemass[body] * model.opt.gravity
        arm = data.subtree_com[body] - data.site_xpos[self._flange]
        # MuJoCo's sensor reads what the arm exerts on the tool.
        force = -data.sensordata[self._force : self._force + 3] - rotation.T @ weight
        torque = -data.sensordata[self._torque : self._torque + 3] - rotation.T @ np.cross(arm, weight)
        return np.concatenate([force, torque])

    # ---- what only the judge and the user see

    @property
    def verdict(self) -> Verdict:
        """The judge's view of the episode."""
        return self._judge.verdict

    def block_states(self) -> dict[str, BlockState]:
        """Centre, speed and touch of every block in the scene, by colour; never shown to a policy."""
        touched = self._touched()
        states = {}
        for block in self.task.blocks:
            body = self._blocks[block.colour]
            velocity = self.data.cvel[body]
            speed = float(np.linalg.norm(velocity[3:]) + 0.02 * np.linalg.norm(velocity[:3]))
            states[block.colour] = BlockState(self.data.xpos[body].copy(), speed, body in touched)
        return states

    def block_pose(self, colour: str) -> Pose:
        """Pose of a block in the base frame; never shown to a policy."""
        body, data = self._blocks[colour], self.data
        w, x, y, z = data.xquat[body]
        return Pose(data.xpos[body].copy(), np.array([x, y, z, w]))

    def objects(self) -> dict[str, Pose]:
        """Everything that lies on the table, by its name (`block_red`); never shown to a policy."""
        found = {block_name(block.colour): self.block_pose(block.colour) for block in self.task.blocks}
        for plate in self.task.plates:
            found[plate_name(plate.colour)] = Pose(plate.position.copy(), rotations.IDENTITY.copy())
        return found

    def _touched(self) -> set[int]:
        """Bodies in contact with the robot (the base does not move and does not count)."""
        contact, model = self.data.contact, self.model
        bodies = model.geom_bodyid[contact.geom] if len(contact.geom) else np.empty((0, 2), dtype=int)
        robot = (
            model.geom_conaffinity[contact.geom] == 0 if len(contact.geom) else np.empty((0, 2), dtype=bool)
        )
        blocks = set(self._blocks.values())
        touched: set[int] = set()
        for pair, of_robot in zip(bodies, robot, strict=True):
            for body, other in ((0, 1), (1, 0)):
                if of_robot[other] and int(pair[body]) in blocks:
                    touched.add(int(pair[body]))
        return touched

    # ---- images

    @property
    def renderer(self) -> Renderer:
        """Made at first use, in the thread that uses it."""
        if self._renderer is None:
            self._renderer = make_renderer(self.model, self.cameras, self._renderer_kind)
        return self._renderer

    def render(self, name: str) -> Image:
        """Image (height, width, 3) of camera `name`.  Raises `ConfigurationError` for an unknown camera."""
        if name not in self.cameras:
            raise ConfigurationError(f"The camera '{name}' is unknown; there are {', '.join(self.cameras)}.")
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        return self.renderer.render(self.data, name)

    def close(self) -> None:
        """Release the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
