"""The simulator node: topics, names and actions of the real drivers; scenes on demand; plain refusals."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

import rclpy
from geometry_msgs.msg import WrenchStamped
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState, MultiDOFJointState
from std_msgs.msg import Float64MultiArray
from vla_ros.srv import StartEpisode

from vla_ros import msg
from vla_ros.bringup.domain import claimed_domain
from vla_ros.nodes import topics
from vla_ros.nodes.conversions import objects_of, to_stamp
from vla_ros.nodes.images import rgb_of
from vla_ros.nodes.simulated_gripper import commanded_width, reported_position
from vla_ros.nodes.simulator import Simulator
from vla_ros.robots import load_robot

pytestmark = pytest.mark.live

SUCCEEDED, ABORTED = 4, 6
COMMAND = [sys.executable, "-m", "vla_ros.nodes.simulator", "--ros-args"]


@pytest.fixture(autouse=True, scope="module")
def domain() -> Iterator[int]:
    with claimed_domain() as number:
        yield number


class Bench:
    """The simulator and a probe that plays all the other nodes."""

    def __init__(self, robot: str, **parameters: Any) -> None:
        arguments = ["--ros-args", "--log-level", "fatal", "-p", f"robot:={robot}"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={value}"]
        rclpy.init(args=arguments)
        self.spec = load_robot(robot)
        self.node = Simulator()
        self.probe = rclpy.create_node("probe")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.probe)

    def listen(self, kind: type, topic: str) -> list[Any]:
        heard: list[Any] = []
        self.probe.create_subscription(kind, topic, heard.append, topics.SENSOR)
        return heard

    def until(self, condition: Callable[[], bool], limit: float = 15.0) -> bool:
        deadline = time.monotonic() + limit
        while not condition() and time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.02)
        return condition()

    def answer(self, future: Any) -> Any:
        assert self.until(future.done)
        return future.result()

    def command(self, positions: Any, heard: list[Any]) -> None:
        """Send a joint command over and over until the arm is there."""
        driver = self.spec.driver
        message: Any
        if driver.command_type == "std_msgs/Float64MultiArray":
            message = Float64MultiArray(data=[float(q) for q in positions])
        else:
            from interbotix_xs_msgs.msg import JointGroupCommand

            message = JointGroupCommand(name="arm", cmd=[float(q) for q in positions])
        publisher = self.probe.create_publisher(type(message), driver.command_topic, topics.RELIABLE)
        assert self.until(lambda: publisher.get_subscription_count() > 0)

        def there() -> bool:
            publisher.publish(message)
            return bool(np.allclose(heard[-1].position[: len(positions)], positions, atol=5e-3))

        assert self.until(there)

    def act(self, kind: Any, name: str, goal: Any) -> Any:
        client = ActionClient(self.probe, kind, name)
        assert self.until(client.server_is_ready)
        handle = self.answer(client.send_goal_async(goal))
        if not handle.accepted:
            return None
        result = self.answer(handle.get_result_async())
        client.destroy()
        return result

    def close(self) -> None:
        self.node.close()
        for node in (self.node, self.probe):
            self.executor.remove_node(node)
            node.destroy_node()
        rclpy.shutdown()


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(robot: str, **parameters: Any) -> Bench:
        made.append(Bench(robot, camera_width=160, camera_height=120, **parameters))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("robot", ["panda", "ur5", "widowx"])
def test_it_publishes_what_the_driver_and_the_cameras_would(bench: Any, robot: str) -> None:
    table = bench(robot, driver_patience=0.0)
    driver = table.spec.driver
    joints = table.listen(JointState, driver.joint_state_topic)
    grips = table.listen(JointState, str(driver.gripper["joint_state_topic"]))
    wrenches = table.listen(WrenchStamped, str(driver.extra.get("wrench_topic", "/simulator/wrench")))
    images = {name: table.listen(Image, camera.topic) for name, camera in table.spec.cameras.items()}
    infos = table.listen(CameraInfo, "/camera/primary/camera_info")
    assert table.until(
        lambda: all(len(one) > 2 for one in (joints, grips, wrenches, infos, *images.values()))
    )
    names = list(joints[-1].name)
    assert names[: len(driver.joint_names)] == list(driver.joint_names)
    assert set(driver.gripper["joint_names"]) <= set(grips[-1].name)
    assert len(joints[-1].position) == len(joints[-1].velocity) == len(joints[-1].effort) == len(names)
    steps = np.diff([to_stamp(message.header.stamp) for message in joints])
    # a machine that stalls makes the schedule start anew: one odd step, never one backwards
    assert np.median(steps) == round(1e9 / table.spec.simulated_joint_state_rate) and np.all(steps > 0)
    for name, frames in images.items():
        assert rgb_of(frames[-1], name).shape == (120, 160, 3)
        assert rgb_of(frames[-1], name).std() > 10
        age = time.time_ns() - to_stamp(frames[-1].header.stamp)
        assert 0 < age < 10e9
    assert infos[-1].k[0] == pytest.approx(60.0 / np.tan(0.5 * table.spec.cameras["primary"].fovy))
    assert infos[-1].k[2] == pytest.approx(79.5)
    table.command(table.spec.home + 0.1, joints)


def test_the_franka_gripper_moves_and_grasps(bench: Any) -> None:
    from franka_msgs.action import Grasp, Move

    table = bench("panda")
    move, grasp = (str(table.spec.driver.gripper[key]) for key in ("name", "grasp_name"))
    moved = table.act(Move, move, Move.Goal(width=0.03, speed=0.1))
    assert (moved.status, moved.result.success) == (SUCCEEDED, True)
    grips = table.listen(JointState, "/franka_gripper/joint_states")
    assert table.until(lambda: bool(grips) and abs(sum(grips[-1].position) - 0.03) < 2e-3)
    empty = Grasp.Goal(width=0.04, speed=0.1, force=20.0)
    empty.epsilon.inner = empty.epsilon.outer = 0.005
    missed = table.act(Grasp, grasp, empty)
    assert (missed.status, missed.result.success) == (ABORTED, False)
    assert table.act(Move, move, Move.Goal(width=float("nan"), speed=0.1)) is None


def test_the_robotiq_gripper_speaks_knuckle_angles(bench: Any) -> None:
    from control_msgs.action import ParallelGripperCommand

    table = bench("ur5")
    name = str(table.spec.driver.gripper["name"])
    goal = ParallelGripperCommand.Goal(command=JointState(position=[0.4]))
    done = table.act(ParallelGripperCommand, name, goal)
    assert done.status == SUCCEEDED and done.result.reached_goal
    assert done.result.state.position[0] == pytest.approx(0.4, abs=0.03)
    assert table.act(ParallelGripperCommand, name, ParallelGripperCommand.Goal()) is None


def test_the_widowx_gripper_takes_finger_positions(bench: Any) -> None:
    from interbotix_xs_msgs.msg import JointSingleCommand

    table = bench("widowx")
    heard = table.listen(JointState, table.spec.driver.joint_state_topic)
    publisher = table.probe.create_publisher(
        JointSingleCommand, "/wx250s/commands/joint_single", topics.RELIABLE
    )

    def closed() -> bool:
        publisher.publish(JointSingleCommand(name="gripper", cmd=0.02))
        return (
            bool(heard) and abs(heard[-1].position[list(heard[-1].name).index("left_finger")] - 0.02) < 1e-3
        )

    assert table.until(closed)
    assert heard[-1].position[list(heard[-1].name).index("right_finger")] == pytest.approx(-0.02, abs=1e-3)


@pytest.mark.parametrize("robot", ["panda", "ur5", "widowx"])
def test_reported_positions_and_widths_are_inverse(robot: str) -> None:
    spec = load_robot(robot)
    for width in np.linspace(spec.gripper.min_width, spec.gripper.max_width, 7):
        assert commanded_width(spec, reported_position(spec, width)) == pytest.approx(width)


def test_scenes_are_reset_and_refused(bench: Any) -> None:
    table = bench("panda", seed=3, task="push")
    statuses = table.listen(msg.EpisodeStatus, topics.SIMULATOR_STATUS)
    assert table.until(lambda: bool(statuses))
    assert (statuses[-1].task, statuses[-1].outcome) == ("push", msg.EpisodeStatus.RUNNING)
    client = table.probe.create_client(StartEpisode, "/simulator/reset_scene")
    assert table.until(client.service_is_ready)
    asked = StartEpisode.Request(instruction="put the blue block on the green plate", seed=7)
    answer = table.answer(client.call_async(asked))
    assert (answer.success, answer.instruction) == (True, "put the blue block on the green plate")
    assert table.until(lambda: statuses[-1].episode_id == answer.episode_id and statuses[-1].elapsed > 0.3)
    assert (statuses[-1].task, statuses[-1].instruction) == ("place", answer.instruction)
    for request, words in (
        (StartEpisode.Request(instruction="sing"), "not understood"),
        (StartEpisode.Request(task="juggle"), "known are pick, place, push, stack"),
        (StartEpisode.Request(task="pick", seed=-4), "must not be negative"),
        (StartEpisode.Request(), "empty"),
    ):
        refusal = table.answer(client.call_async(request))
        assert not refusal.success and words in refusal.message
    count = len(statuses)
    assert table.until(lambda: len(statuses) > count + 1)
    assert statuses[-1].episode_id == answer.episode_id


def test_it_tells_where_everything_on_the_table_is(bench: Any) -> None:
    b = bench("widowx", task="place")
    heard = b.listen(MultiDOFJointState, topics.SIMULATOR_OBJECTS)
    assert b.until(lambda: heard)
    world = b.node._world
    told = objects_of(heard[-1])
    assert set(told) == set(world.objects()) and len([name for name in told if "plate" in name]) == 1
    for name, pose in world.objects().items():
        np.testing.assert_allclose(told[name].position, pose.position, atol=1e-3)
        np.testing.assert_allclose(np.abs(told[name].quaternion @ pose.quaternion), 1.0, atol=1e-4)
    assert heard[-1].header.frame_id == b.spec.base_frame


def test_the_clock_runs_with_the_simulated_time(bench: Any) -> None:
    table = bench("ur5", publish_clock=True)
    clocks = table.listen(Clock, "/clock")
    joints = table.listen(JointState, table.spec.driver.joint_state_topic)
    assert table.until(lambda: len(clocks) > 20 and len(joints) > 20)
    seconds = [message.clock.sec + 1e-9 * message.clock.nanosec for message in clocks]
    assert np.all(np.diff(seconds) > 0.0) and seconds[-1] < 60.0
    assert to_stamp(joints[-1].header.stamp) < 60e9


@pytest.mark.parametrize(
    "parameters, words",
    [
        (["robot:=hexapod"], "hexapod"),
        (["instruction:='fly away'"], "not understood"),
        (["task:=juggle"], "juggle"),
        (["seed:=-1"], "seed"),
        (["physics_rate:=10"], "physics_rate"),
        (["renderer:=crayon"], "crayon"),
        (["camera_rate:=1000.0"], "camera_rate"),
    ],
)
def test_bad_parameters_end_it_with_one_sentence_and_status_2(parameters: list[str], words: str) -> None:
    arguments = [part for parameter in parameters for part in ("-p", parameter)]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(signum: int) -> None:
    process = subprocess.Popen(
        [*COMMAND, "-p", "robot:=widowx"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        lines: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "is simulated" in line:
                break
        process.send_signal(signum)
        rest = process.communicate(timeout=20)[0]
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in "".join(lines) + rest
