"""Node `simulator`: a robot, its cameras and a table with blocks, on the topics of the real drivers."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import time
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import MultiDOFJointState
from std_msgs.msg import String

from vla_ros import msg
from vla_ros.contract import load_contract
from vla_ros.errors import ConfigurationError, VlaRosError
from vla_ros.nodes import topics
from vla_ros.nodes.base import VlaNode, run
from vla_ros.nodes.camera_topics import CameraTopics
from vla_ros.nodes.conversions import objects_message, to_time
from vla_ros.nodes.driver_topics import DriverTopics
from vla_ros.nodes.parameters import Parameter
from vla_ros.nodes.simulated_driver import make_surface
from vla_ros.nodes.time_gate import TimeGate
from vla_ros.robots.spec import CameraSpec, RobotSpec
from vla_ros.sim.drivers import make_driver
from vla_ros.sim.goal import TASKS
from vla_ros.sim.realtime import CameraLoop, PhysicsLoop, Sample
from vla_ros.sim.render import BACKENDS
from vla_ros.sim.world import NO_ROOM, World, scenes
from vla_ros.srv import StartEpisode
from vla_ros.types import NANOSECONDS, Image

STATUS_PERIOD = 0.1
OBJECTS_PERIOD = 0.05
DIAGNOSTICS_PERIOD = 1.0
OUTLIVES, QUIET = 1.5, 0.1
"""Seconds for which commands are still followed when the process was asked to end, and without one after
which it does: the safety controller, asked at the same time, needs half a second to stop the robot."""
SWITCH_INTERVAL = 0.0005
"""Longest time one thread keeps another from Python [s]; the default, 5 ms, exceeds a joint-state period."""


class Simulator(VlaNode):
    """Physics and cameras run in threads of their own; this class only wires them."""

    PARAMETERS = (
        Parameter("robot", "panda", "Name of a robot, or path of a robot's YAML file or of a contract."),
        Parameter("task", "", "Task of the first scene; empty: what the instruction says, else pick.",
                  choices=("", *TASKS)),
        Parameter("instruction", "", "Instruction of the first scene; empty: the task's own."),
        Parameter("seed", 0, "Seed of the first scene.", 0),
        Parameter("camera_width", 0, "Width of all images [pixel]; 0: as the contract says.", 0, 4096),
        Parameter("camera_height", 0, "Height of all images [pixel]; 0: as the contract says.", 0, 4096),
        Parameter("camera_rate", 0.0, "Images a second of each camera [Hz]; 0: as the contract says.",
                  0.0, 120.0),
        Parameter("physics_rate", 500, "Time steps a second [Hz].", 500, 2000),
        Parameter("renderer", "auto", "How images are made.", choices=BACKENDS),
        Parameter("driver_patience", 10.0, "Factor on the timeouts of the simulated driver, for a machine "
                  "whose clock stutters; 1: the real driver's, 0: a driver that follows whatever it is sent.",
                  0.0, 100.0),
        Parameter("publish_clock", False, "Publish /clock; stamps are then simulated time from 0."),
        Parameter("clock_rate", 100.0, "Messages on /clock in a simulated second [Hz], at most one a "
                  "joint state.", 1.0, 2000.0),
        Parameter("speed", 1.0, "Simulated seconds in a real one, 0: time stands; another than 1 needs "
                  "publish_clock. May be changed while it runs.", 0.0, 10.0, read_only=False),
        Parameter("wait_for_controller", False, "Time waits for a safety controller that follows /clock, and "
                  "for /simulator/hold_time: the speed is then the highest that all keep."),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__("simulator")
        sys.setswitchinterval(SWITCH_INTERVAL)
        spec = load_contract(self.value("robot"), simulated=True).robot
        cameras = self._cameras_of(spec)
        task, instruction = self.value("task"), self.value("instruction")
        if not task and not instruction.strip():
            task = "pick"
        timestep = 1.0 / self.value("physics_rate")
        patience = self.value("driver_patience")
        self._world = World(
            spec,
            task,
            self.value("seed"),
            instruction,
            timestep,
            cameras,
            driver=make_driver(spec, patience),
        )
        self._lock = threading.Lock()
        self._scene = 0
        self._clocked = self.value("publish_clock")
        self._clock_topic = self.create_publisher(Clock, "/clock", topics.RELIABLE) if self._clocked else None
        self._clock_every = max(1, round(spec.simulated_joint_state_rate / self.value("clock_rate")))
        self._samples = self._time_told = 0
        self._driver = DriverTopics(self, spec, self._world, self._lock)
        self._surface = make_surface(self, spec, self._world, self._lock) if patience else None
        self._camera_topics = CameraTopics(self, cameras)
        self._status = self.create_publisher(msg.EpisodeStatus, topics.SIMULATOR_STATUS, topics.RELIABLE)
        self._scene_topic = self.create_publisher(String, topics.SIMULATOR_SCENE, topics.LATCHED)
        self._objects_topic = self.create_publisher(
            MultiDOFJointState, topics.SIMULATOR_OBJECTS, topics.NEWEST
        )
        self._tell_scene()
        self.create_service(StartEpisode, "~/reset_scene", self._reset_scene)
        self._gate = TimeGate(self, self._tell_time) if self.value("wait_for_controller") else None
        sentence = self._speed_refused(self.value("speed"))
        if sentence:
            raise ConfigurationError(sentence)
        self._physics = PhysicsLoop(
            self._world,
            self._lock,
            spec.simulated_joint_state_rate,
            self._on_sample,
            self._on_failure,
            self._before_batch,
            self.value("speed"),
        )
        self.add_on_set_parameters_callback(self._on_parameters)
        self._cameras = CameraLoop(
            self._world, self._lock, self._physics, self.value("renderer"), self._on_image, self._on_failure
        )
        self.create_timer(STATUS_PERIOD, self._publish_status)
        self.create_timer(OBJECTS_PERIOD, self._publish_objects)
        self.create_timer(DIAGNOSTICS_PERIOD, self._publish_health)
        self._cameras.start()
        self._cameras.wait_ready()
        self._physics.start()
        self.get_logger().info(f"{spec.title} is simulated: {self._world.task.instruction}.")

    def _cameras_of(self, spec: RobotSpec) -> dict[str, CameraSpec]:
        changes: dict[str, Any] = {
            key: self.value(f"camera_{key}")
            for key in ("width", "height", "rate")
            if self.value(f"camera_{key}")
        }
        return {name: dataclasses.replace(camera, **changes) for name, camera in spec.cameras.items()}

    def _speed_refused(self, speed: float) -> str:
        if speed == 1.0 or self._clocked:
            return ""
        return (
            f"Parameter 'speed' of node 'simulator' was given as {speed:g}, but without publish_clock nobody "
            "would know of it; allowed is 1."
        )

    def _on_parameters(self, changed: list[Any]) -> SetParametersResult:
        for parameter in changed:
            if parameter.name == "speed":
                sentence = self._speed_refused(parameter.value)
                if sentence:
                    return SetParametersResult(successful=False, reason=sentence)
                self._physics.speed = parameter.value
        return SetParametersResult(successful=True)

    # Called from the physics and camera threads.

    def _before_batch(self) -> None:
        if self._gate is not None:
            self._gate.wait(self._world.sim_time, self._physics.period / NANOSECONDS)
        self._driver.take_commands()

    def _stamp(self, stamp: int, sim_time: float) -> int:
        return round(sim_time * NANOSECONDS) if self._clocked else stamp

    def _on_sample(self, sample: Sample) -> None:
        stamp = self._stamp(sample.stamp, sample.sim_time)
        self._time_told = stamp
        if self._samples % self._clock_every == 0:
            self._tell_time()
        self._samples += 1
        self._driver.publish(sample, stamp)

    def _tell_time(self) -> None:
        if self._clock_topic is not None:
            self._clock_topic.publish(Clock(clock=to_time(self._time_told)))

    def _on_image(self, camera: CameraSpec, stamp: int, sim_time: float, image: Image) -> None:
        self._camera_topics.publish(camera, self._stamp(stamp, sim_time), image)

    def _on_failure(self, error: Exception) -> None:
        if not self.stopping:
            self.get_logger().error(
                str(error) if isinstance(error, VlaRosError) else f"The simulator failed: {error!r}."
            )
            self.stop(2 if isinstance(error, VlaRosError) else 1)

    # Called from the executor.

    def _reset_scene(self, request: Any, response: Any) -> Any:
        try:
            for task in scenes(self._world.spec, request.task, request.instruction, request.seed):
                with self._lock:
                    if self._world.adopt(task):
                        break
            else:
                raise ConfigurationError(NO_ROOM)
        except VlaRosError as error:
            response.success, response.message = False, str(error)
            return response
        self._scene += 1
        response.success, response.instruction, response.episode_id = True, task.instruction, self._scene_id()
        self._tell_scene()
        self._publish_status()
        return response

    def _tell_scene(self) -> None:
        """What it takes to lay the scene again: in a bag, the way to replay an episode to its end."""
        task = self._world.task
        told = {
            "robot": self._world.spec.name,
            "task": task.name,
            "instruction": task.instruction,
            "seed": task.seed,
            "episode_id": self._scene_id(),
        }
        self._scene_topic.publish(String(data=json.dumps(told)))

    def _scene_id(self) -> str:
        return f"scene_{self._scene:04d}"

    def _publish_status(self) -> None:
        with self._lock:
            task, verdict, stamp = self._world.task, self._world.verdict, self._physics.stamp
            sim_time = self._world.sim_time
        message = msg.EpisodeStatus(
            episode_id=self._scene_id(),
            task=task.name,
            instruction=task.instruction,
            outcome=int(verdict.outcome),
            reason=verdict.reason,
            elapsed=verdict.elapsed,
        )
        message.header.stamp = to_time(self._stamp(stamp, sim_time))
        self._status.publish(message)

    def _publish_objects(self) -> None:
        if not self._objects_topic.get_subscription_count():
            return
        with self._lock:
            objects, stamp, sim_time = self._world.objects(), self._physics.stamp, self._world.sim_time
        message = objects_message(objects, self._world.spec.base_frame)
        message.header.stamp = to_time(self._stamp(stamp, sim_time))
        self._objects_topic.publish(message)

    def _publish_health(self) -> None:
        values = {
            "renderer": self._cameras.backend,
            "commands": self._driver.commands,
            "frames": sum(self._camera_topics.frames.values()),
            "frames skipped": self._cameras.skipped,
            "seconds lost": f"{self._physics.lost / NANOSECONDS:.2f}",
        }
        self.diagnose("", values)

    def outlive_commands(self, executor: Any) -> None:
        """A robot whose driver ended first would be left in motion: serve on until no command comes."""
        count, since, deadline = -1, time.monotonic(), time.monotonic() + OUTLIVES
        while time.monotonic() < min(deadline, since + QUIET):
            if self._driver.commands != count:
                count, since = self._driver.commands, time.monotonic()
            executor.spin_once(timeout_sec=0.01)

    def close(self) -> None:
        """End the threads, then the driver's interfaces."""
        self._cameras.stop()
        self._physics.stop()
        self._driver.close()
        if self._surface is not None:
            self._surface.close()


def main() -> int:
    """Entry point."""
    return run(Simulator, before_end=Simulator.outlive_commands)


if __name__ == "__main__":
    sys.exit(main())
