"""The simulated world on the wall clock, at a speed: one thread for physics, one for images."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mujoco

from vla_ros.robots.spec import CameraSpec
from vla_ros.sim.render import make_renderer
from vla_ros.sim.world import World
from vla_ros.types import NANOSECONDS, Array, Image

MAX_LAG = 100_000_000
"""Farther behind the clock than this, time is given up rather than caught up [ns]."""
STANDING = 0.005
"""Seconds between two looks whether time goes on."""
_JOIN = 2.0


@dataclass(frozen=True)
class Sample:
    """What the robot reports after a batch of time steps."""

    stamp: int
    """Wall-clock time for which the state was computed [ns]."""
    sim_time: float
    positions: Array
    velocities: Array
    efforts: Array
    gripper_width: float
    gripper_speed: float
    gripper_force: float
    fingers: Array
    wrench: Array


class Loop(threading.Thread, ABC):
    """A thread that ends with a request, and tells about an unexpected error."""

    def __init__(self, name: str, failed: Callable[[Exception], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._failed = failed
        self._end = threading.Event()

    def run(self) -> None:
        """Work until `stop`; any error is handed to `failed`."""
        try:
            self._work()
        except Exception as error:
            self._failed(error)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._end.set()
        if self.is_alive():
            self.join(_JOIN)

    @abstractmethod
    def _work(self) -> None:
        """What the thread does until it is asked to end."""

    def _sleep_until(self, due: int) -> int:
        """Sleep until `due` [ns of the system clock]; answers by how much the clock is past it."""
        ahead = due - time.time_ns()
        if ahead > 0:
            time.sleep(ahead / NANOSECONDS)
        return time.time_ns() - due


class PhysicsLoop(Loop):
    """Steps the world in batches, one a joint-state period, each at its own absolute time."""

    def __init__(
        self,
        world: World,
        lock: threading.Lock,
        rate: float,
        publish: Callable[[Sample], None],
        failed: Callable[[Exception], None],
        prepare: Callable[[], None] = lambda: None,
        speed: float = 1.0,
    ) -> None:
        """`prepare` is called before every batch, without the lock; it may wait for who must keep up."""
        super().__init__("physics", failed)
        self._prepare = prepare
        self._world = world
        self._lock = lock
        self._publish = publish
        self._steps = max(1, round(1.0 / (rate * world.model.opt.timestep)))
        self.period = round(self._steps * world.model.opt.timestep * NANOSECONDS)
        self.stamp = 0
        """Stamp of the present state; read and written under the lock."""
        self.lost = 0
        """Nanoseconds given up because the machine was too slow."""
        self.speed = speed
        """Seconds of the world in one of the clock; 0: time stands.  May be changed at any time."""

    def _work(self) -> None:
        due = time.time_ns() + self.period
        while not self._end.is_set():
            speed = self.speed
            if speed <= 0.0:
                self._end.wait(STANDING)
                due = time.time_ns()
                continue
            late = self._sleep_until(due)
            if abs(late) > MAX_LAG:
                self.lost += max(late, 0)
                due += late
            self._prepare()
            with self._lock:
                self._world.step(self._steps)
                self.stamp = due
                sample = self._sample(due)
            self._publish(sample)
            due += round(self.period / speed)

    def _sample(self, stamp: int) -> Sample:
        world = self._world
        return Sample(
            stamp,
            world.sim_time,
            *world.joint_state(),
            world.gripper_width(),
            world.gripper_speed(),
            world.gripper_force(),
            world.finger_positions(),
            world.wrench(),
        )


class CameraLoop(Loop):
    """Renders copies of the state, so that physics never waits for an image.

    Cameras due together see the same state and carry the same stamp.
    """

    def __init__(
        self,
        world: World,
        lock: threading.Lock,
        physics: PhysicsLoop,
        renderer: str,
        publish: Callable[[CameraSpec, int, float, Image], None],
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__("cameras", failed)
        self._model = world.model
        self._source = world.data
        self._cameras: Mapping[str, CameraSpec] = world.cameras
        self._lock = lock
        self._physics = physics
        self._kind = renderer
        self._publish = publish
        self.backend = ""
        """Known once the thread has made its renderer."""
        self._ready = threading.Event()
        self.skipped = 0
        """Frames that were not rendered because the machine was too slow."""

    def _work(self) -> None:
        data = mujoco.MjData(self._model)
        try:
            renderer = make_renderer(self._model, self._cameras, self._kind)
            self.backend = renderer.backend
            self._copy_state(data)
            for name in self._cameras:
                renderer.render(data, name)
        finally:
            self._ready.set()
        periods = {name: round(NANOSECONDS / camera.rate) for name, camera in self._cameras.items()}
        due = dict.fromkeys(self._cameras, time.time_ns())
        try:
            while not self._end.is_set():
                instant = min(due.values())
                self._sleep_until(instant)
                speed = self._physics.speed
                if speed <= 0.0:
                    self._end.wait(STANDING)
                    continue
                stamp, sim_time = self._copy_state(data)
                for name in [name for name, when in due.items() if when <= instant]:
                    if stamp:
                        self._publish(self._cameras[name], stamp, sim_time, renderer.render(data, name))
                    due[name] = self._next(due[name], round(periods[name] / speed))
        finally:
            renderer.close()

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until a first image of each camera was rendered, or that failed; False after `timeout` [s].

        Making an OpenGL context keeps the interpreter for up to a second on a slow machine: physics that runs
        already would stand still, and its robot would be stopped for joint states that do not come.
        """
        return self._ready.wait(timeout)

    def _next(self, due: int, period: int) -> int:
        """The next instant that is not past; near, also when the clock was set back."""
        now = time.time_ns()
        missed = max(0, (now - due) // period)
        self.skipped += missed
        return min(due + (1 + missed) * period, now + 2 * period)

    def _copy_state(self, data: mujoco.MjData) -> tuple[int, float]:
        source = self._source
        with self._lock:
            data.qpos[:] = source.qpos
            data.mocap_pos[:] = source.mocap_pos
            stamp, sim_time = self._physics.stamp, source.time
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_camlight(self._model, data)
        return stamp, float(sim_time)
