"""The safety controller's node on a real graph, with a driver that does exactly what it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from late_machine import StoppedError
from node_bench import OK, REFUSED, Bench
from sensor_msgs.msg import JointState
from shape_msgs.msg import Plane, SolidPrimitive
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from vla_ros import msg, srv
from vla_ros.actions import rotations
from vla_ros.bringup.domain import claimed_domain
from vla_ros.nodes import topics
from vla_ros.nodes.control_thread import STALL
from vla_ros.nodes.conversions import action_chunk_message
from vla_ros.nodes.safety_controller import SafetyControllerNode
from vla_ros.robots import load_robot
from vla_ros.robots.kinematics import Kinematics
from vla_ros.types import ActionChunk, ActionKind, SafetyState

pytestmark = pytest.mark.live

SPEC = load_robot("panda")
MODEL = Kinematics(SPEC)


@pytest.fixture(autouse=True, scope="module")
def domain() -> Iterator[int]:
    with claimed_domain() as number:
        yield number


class Echo:
    """Driver double: measured joints are the last command."""

    def __init__(self, bench: Bench, speaking: bool = True) -> None:
        self.bench = bench
        self.speaking = speaking
        self.feeling = False
        self.positions = SPEC.home.copy()
        self.setpoints = bench.listen(msg.JointSetpoint, topics.JOINT_SETPOINT)
        self.statuses = bench.listen(msg.SafetyStatus, topics.SAFETY_STATUS)
        driver = SPEC.driver
        bench.probe.create_subscription(Float64MultiArray, driver.command_topic, self._on_command, 1)
        self._states = bench.probe.create_publisher(JointState, driver.joint_state_topic, 5)
        bench.probe.create_timer(0.01, self._speak)

    def _on_command(self, message: Float64MultiArray) -> None:
        self.positions = np.array(message.data)

    def _speak(self) -> None:
        if self.speaking:
            message = JointState(name=list(SPEC.driver.joint_names), position=self.positions.tolist())
            message.velocity = [0.0] * 7
            if self.feeling:
                message.effort = MODEL.torques(self.positions, np.zeros(7), np.zeros(7)).tolist()
            message.header.stamp = self.bench.probe.get_clock().now().to_msg()
            self._states.publish(message)

    def state(self) -> SafetyState | None:
        """None until the first tick."""
        return SafetyState(self.statuses[-1].state) if self.statuses and self.statuses[-1].tick else None

    def reaches(self, *states: SafetyState, limit: float = 10.0) -> bool:
        there = self.bench.until(lambda: self.state() in states, limit)
        if not there and self.state() in (SafetyState.STOPPED, SafetyState.FAULT):
            raise StoppedError(self.statuses[-1].message)
        return there

    def chunk(self, dx: float, sequence: int) -> msg.ActionChunk:
        chunk = ActionChunk(
            self.bench.now() - 50_000_000, sequence, ActionKind.CARTESIAN_DELTA, 0.2, np.full(6, 0.08),
            translation=np.tile([dx, 0.0, 0.0], (6, 1)), quaternion=np.tile(rotations.IDENTITY, (6, 1)),
        )  # fmt: skip
        return action_chunk_message(chunk, SPEC.base_frame)

    def call(self, name: str, kind: Any = Trigger, **fields: Any) -> Any:
        client = self.bench.probe.create_client(kind, f"/safety_controller/{name}")
        assert self.bench.until(client.service_is_ready)
        future = client.call_async(kind.Request(**fields))
        assert self.bench.until(future.done)
        return future.result()


@pytest.fixture
def echo() -> Iterator[Callable[..., Echo]]:
    made: list[Bench] = []

    def make(speaking: bool = True, **parameters: Any) -> Echo:
        settings = {"contract": "panda", "simulated": True, "control_rate": 100.0, "check_driver": False}
        bench = Bench(SafetyControllerNode, **(settings | parameters))
        made.append(bench)
        driver = Echo(bench, speaking)
        bench.up()
        return driver

    yield make
    for bench in made:
        if bench.node._control is not None and bench.node._control.loop is not None:
            bench.node.trigger_deactivate()
        bench.close()


def test_chunks_move_the_robot_and_every_command_is_recorded_as_a_setpoint(echo: Callable[..., Echo]) -> None:
    driver = echo()
    assert driver.reaches(SafetyState.IDLE)
    publisher = driver.bench.talk(msg.ActionChunk, topics.ACTION_CHUNK)
    publisher.publish(driver.chunk(0.01, 7))
    assert driver.reaches(SafetyState.RUNNING, SafetyState.LIMITED)
    assert driver.reaches(SafetyState.HOLDING)
    moved = [s for s in driver.setpoints if s.chunk_sequence == 7]
    assert moved and moved[0].observation_stamp.sec > 0
    ticks = [s.tick for s in driver.setpoints]
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    np.testing.assert_allclose(driver.positions, driver.setpoints[-1].positions, atol=1e-12)
    assert driver.statuses[-1].chunk_delay == pytest.approx(0.05, abs=0.5)
    assert np.abs(driver.positions - SPEC.home).max() > 0.01


def test_emergency_stop_and_reset_by_service(echo: Callable[..., Echo]) -> None:
    driver = echo()
    assert driver.reaches(SafetyState.IDLE)
    assert not driver.call("reset").success
    assert driver.call("emergency_stop").success
    assert driver.reaches(SafetyState.STOPPED)
    driver.bench.talk(msg.ActionChunk, topics.ACTION_CHUNK).publish(driver.chunk(0.01, 1))
    refused = driver.call("move_to_joints", srv.MoveToJoints, positions=[], gripper_width=-1.0)
    assert not refused.success and "STOPPED" in refused.message
    assert driver.state() is SafetyState.STOPPED
    refused = driver.call("reset")
    while not refused.success and "stayed the same" in refused.message:
        driver.bench.until(lambda: False, 0.1)
        refused = driver.call("reset")
    assert refused.success
    assert driver.reaches(SafetyState.IDLE)
    assert driver.call("pause").success and driver.call("resume").success
    assert driver.call("move_to_joints", srv.MoveToJoints, positions=[], gripper_width=0.02).success


def stand_still(driver: Echo, seconds: float) -> None:
    """Hold the control thread up between two ticks, as a page fault or the middleware does."""
    control = driver.bench.node._control
    control.call(lambda: time.sleep(seconds))


def test_a_loop_that_stands_still_at_rest_stops_nothing_and_asks_for_no_reset(
    echo: Callable[..., Echo],
) -> None:
    driver = echo()
    assert driver.reaches(SafetyState.IDLE)
    begin = driver.setpoints[-1].tick
    stand_still(driver, 1.5 * STALL)
    assert driver.bench.until(lambda: driver.setpoints[-1].tick > begin + 30)
    assert driver.state() is SafetyState.IDLE
    listed = [item.reason for status in driver.statuses for item in status.interventions]
    assert "overrun" in listed
    driver.bench.talk(msg.ActionChunk, topics.ACTION_CHUNK).publish(driver.chunk(0.01, 1))
    assert driver.reaches(SafetyState.RUNNING, SafetyState.LIMITED)
    assert driver.reaches(SafetyState.HOLDING)
    stand_still(driver, 1.5 * STALL)
    driver.bench.until(lambda: False, 0.3)
    assert driver.state() is SafetyState.HOLDING
    assert np.ptp([list(s.positions) for s in driver.setpoints[:10]], axis=0).max() == 0.0


def test_a_loop_that_stands_still_in_motion_stops_for_good(echo: Callable[..., Echo]) -> None:
    driver = echo()
    assert driver.reaches(SafetyState.IDLE)
    driver.bench.talk(msg.ActionChunk, topics.ACTION_CHUNK).publish(driver.chunk(0.01, 1))
    assert driver.bench.until(lambda: np.abs(driver.setpoints[-1].velocities).max() > 0.01)
    stand_still(driver, 1.5 * STALL)
    assert driver.bench.until(lambda: driver.state() is SafetyState.STOPPED)
    assert "stood still" in driver.statuses[-1].message


def test_a_chunk_that_came_while_the_loop_stood_still_before_its_first_motion(
    echo: Callable[..., Echo],
) -> None:
    """It waited at rest, so it neither needs a reset nor starts at full speed."""
    driver = echo()
    assert driver.reaches(SafetyState.IDLE)
    publisher = driver.bench.talk(msg.ActionChunk, topics.ACTION_CHUNK)
    driver.bench.until(lambda: False, 1.2)
    control = driver.bench.node._control
    sending = threading.Timer(0.1, lambda: publisher.publish(driver.chunk(0.01, 5)))
    sending.start()
    control.call(lambda: time.sleep(1.5 * STALL))
    sending.join()
    assert driver.reaches(SafetyState.RUNNING, SafetyState.LIMITED)
    assert driver.reaches(SafetyState.HOLDING)
    assert control.controller.executor.sequence == 5


def test_silence_of_the_driver_stops_it_and_its_absence_moves_nothing(echo: Callable[..., Echo]) -> None:
    driver = echo()
    assert driver.reaches(SafetyState.IDLE)
    driver.speaking = False
    assert driver.reaches(SafetyState.FAULT)
    assert "joint state" in driver.statuses[-1].message


def test_without_joint_states_nothing_is_commanded(echo: Callable[..., Echo]) -> None:
    driver = echo(speaking=False)
    driver.bench.until(lambda: len(driver.statuses) > 20)
    assert not driver.setpoints
    assert not driver.call("emergency_stop").success


def test_where_contact_is_watched_nothing_moves_that_feels_nothing(
    echo: Callable[..., Echo], tmp_path: Path
) -> None:
    contract = tmp_path / "contract.yaml"
    contract.write_text("robot: panda\ncontact: true\n")
    driver = echo(contract=str(contract))
    assert not driver.bench.until(lambda: driver.state() is not None, 1.5) and not driver.setpoints
    assert "contact is watched by joint torques, but no joint state" in driver.statuses[-1].message
    driver.feeling = True
    assert driver.reaches(SafetyState.IDLE)
    publisher = driver.bench.talk(msg.ActionChunk, topics.ACTION_CHUNK)
    publisher.publish(driver.chunk(0.01, 1))
    assert driver.reaches(SafetyState.RUNNING, SafetyState.LIMITED)
    driver.feeling = False
    assert driver.bench.until(lambda: "contact is watched" in driver.statuses[-1].message, 5.0)
    assert driver.reaches(SafetyState.HOLDING)
    publisher.publish(driver.chunk(0.01, 2))
    assert not driver.reaches(SafetyState.RUNNING, SafetyState.LIMITED, limit=1.0)


def test_a_chunk_with_nan_published_by_anyone_stops_it(echo: Callable[..., Echo]) -> None:
    driver = echo()
    assert driver.reaches(SafetyState.IDLE)
    publisher = driver.bench.talk(msg.ActionChunk, topics.ACTION_CHUNK)
    malformed = driver.chunk(0.01, 1)
    malformed.kind = 99
    publisher.publish(malformed)
    driver.bench.until(lambda: False, 0.3)
    assert driver.state() is SafetyState.IDLE
    publisher.publish(driver.chunk(float("nan"), 2))
    assert driver.reaches(SafetyState.STOPPED)
    assert np.abs(driver.positions - SPEC.home).max() < 1e-6


def test_a_second_publisher_is_let_be_until_it_commands_the_arm(echo: Callable[..., Echo]) -> None:
    driver = echo()
    assert driver.reaches(SafetyState.IDLE)
    other = driver.bench.probe.create_publisher(Float64MultiArray, SPEC.driver.command_topic, 1)
    assert driver.bench.until(lambda: driver.bench.node._control.foreign._subscription is not None)
    seen = len(driver.setpoints)
    driver.bench.until(lambda: len(driver.setpoints) > seen + 30)
    assert driver.state() is SafetyState.IDLE
    foreign = Float64MultiArray(data=(SPEC.home + 0.001).tolist())
    driver.bench.probe.create_timer(0.05, lambda: other.publish(foreign))
    assert driver.reaches(SafetyState.FAULT)
    assert "1 other publisher(s) command the arm" in driver.statuses[-1].message


def test_obstacles_by_service_are_taken_or_refused_as_a_whole(echo: Callable[..., Echo]) -> None:
    driver = echo()
    assert driver.reaches(SafetyState.IDLE)
    box = msg.Obstacle(
        name="box", solid=[SolidPrimitive(type=SolidPrimitive.BOX, dimensions=[0.1, 0.2, 0.3])]
    )
    box.pose.position.x, box.pose.orientation.w = 1.5, 1.0
    wall = msg.Obstacle(name="wall", plane=[Plane(coef=[0.0, -2.0, 0.0, 3.0])])
    taken = driver.call("set_obstacles", srv.SetObstacles, obstacles=[box, wall])
    assert taken.success and taken.message == "2 obstacle(s) around the robot"
    environment = driver.bench.node._control.controller.environment
    plane = environment.obstacles[1]
    np.testing.assert_allclose([*plane.normal, plane.offset], [0.0, -1.0, 0.0, -1.5])
    for wrong, why in (
        (msg.Obstacle(name="nothing"), "must be one solid or one plane"),
        (
            msg.Obstacle(
                name="cone", solid=[SolidPrimitive(type=SolidPrimitive.CONE, dimensions=[1.0, 1.0])]
            ),
            "cone",
        ),
        (box, "given twice"),
    ):
        refused = driver.call("set_obstacles", srv.SetObstacles, obstacles=[box, wrong])
        assert not refused.success and why in refused.message
        assert len(environment.obstacles) == 2
    refused = driver.call("set_obstacles", srv.SetObstacles, frame_id="camera", obstacles=[box])
    assert not refused.success and "'camera'" in refused.message
    assert driver.call("set_obstacles", srv.SetObstacles, obstacles=[]).success
    assert not environment.obstacles


@pytest.mark.parametrize("parameters", [{"contract": "panda2"}, {"action_space": "bridgee"}])
def test_what_does_not_hold_refuses_to_configure(parameters: dict[str, Any]) -> None:
    bench = Bench(SafetyControllerNode, **{"contract": "panda", **parameters})
    try:
        assert bench.node.trigger_configure() == REFUSED
    finally:
        bench.close()


def test_it_goes_down_and_up_again(echo: Callable[..., Echo]) -> None:
    driver = echo()
    assert driver.reaches(SafetyState.IDLE)
    node = driver.bench.node
    assert node.trigger_deactivate() == OK
    assert node.trigger_cleanup() == OK
    assert node.trigger_configure() == OK
    driver.statuses.clear()
    assert node.trigger_activate() == OK
    assert driver.reaches(SafetyState.IDLE)
