"""Controller and simulated robot: the driver stops, a person recovers and resets it, motion eases in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from node_bench import Bench
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from vla_ros import msg, srv
from vla_ros.bringup.domain import claimed_domain
from vla_ros.nodes import topics
from vla_ros.nodes.safety_controller import SafetyControllerNode
from vla_ros.nodes.simulator import Simulator
from vla_ros.robots import load_robot
from vla_ros.types import SafetyState

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True, scope="module")
def domain() -> Iterator[int]:
    with claimed_domain() as number:
        yield number


class Pair:
    """A simulated robot and its safety controller in one executor."""

    def __init__(self, robot: str) -> None:
        self.spec = load_robot(robot)
        # in one process both stutter: what is looked at here is the order of things, not time
        self.bench = Bench(
            SafetyControllerNode, contract=robot, robot=robot, simulated=True, priority=0,
            camera_width=64, camera_height=48, camera_rate=1.0, driver_patience=100.0,
        )  # fmt: skip
        self.simulator = Simulator()
        self.bench.executor.add_node(self.simulator)
        self.statuses = self.bench.listen(msg.SafetyStatus, topics.SAFETY_STATUS)
        self.setpoints = self.bench.listen(msg.JointSetpoint, topics.JOINT_SETPOINT)
        self.bench.up()

    @property
    def double(self) -> Any:
        return self.simulator._world.driver

    def position(self) -> np.ndarray:
        with self.simulator._lock:
            return self.simulator._world.joint_positions()

    def reaches(self, *states: SafetyState, limit: float = 15.0) -> bool:
        def there() -> bool:
            return bool(self.statuses) and self.statuses[-1].tick > 0 and self.statuses[-1].state in states

        return self.bench.until(there, limit)

    def call(self, name: str, kind: Any = Trigger, limit: float = 20.0, **fields: Any) -> Any:
        client = self.bench.probe.create_client(kind, name)
        assert self.bench.until(client.service_is_ready)
        future = client.call_async(kind.Request(**fields))
        assert self.bench.until(future.done, limit)
        return future.result()

    def move(self, offset: float) -> Any:
        goal = (self.spec.home + offset).tolist()
        return self.call(
            "/safety_controller/move_to_joints", srv.MoveToJoints, positions=goal, gripper_width=-1.0
        )

    def close(self) -> None:
        self.bench.executor.remove_node(self.simulator)
        self.simulator.close()
        self.bench.close()
        self.simulator.destroy_node()


@pytest.fixture
def pair() -> Iterator[Callable[[str], Pair]]:
    made: list[Pair] = []

    def make(robot: str) -> Pair:
        made.append(Pair(robot))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(
    "robot, fault, words",
    [
        ("panda", "/simulator/trigger_reflex", "cartesian_reflex"),
        ("ur5", "/simulator/trigger_protective_stop", "protective stop"),
    ],
)
def test_the_driver_stops_is_recovered_and_motion_begins_again(
    pair: Callable[[str], Pair], robot: str, fault: str, words: str
) -> None:
    both = pair(robot)
    assert both.reaches(SafetyState.IDLE)
    assert both.move(0.2).success
    assert both.bench.until(lambda: np.abs(both.position() - both.spec.home).max() > 0.03)
    assert both.call(fault).success

    assert both.reaches(SafetyState.FAULT)
    assert words in both.statuses[-1].message and words in both.statuses[-1].driver
    reasons = {item.reason for status in both.statuses for item in status.interventions}
    assert "driver" in reasons

    def refused_for_the_driver() -> bool:
        answer = both.call("/safety_controller/reset")
        assert not answer.success
        return "driver" in answer.message

    # first the robot has to come to rest
    assert both.bench.until(refused_for_the_driver)

    recovered = both.call("/safety_controller/recover")
    assert recovered.success, recovered.message
    assert both.double.following
    # the driver is back; nothing moves and nothing is commanded before a person resets
    stands = both.position()
    both.bench.until(lambda: False, 1.0)
    assert both.statuses[-1].state == SafetyState.FAULT and both.statuses[-1].driver == ""
    np.testing.assert_allclose(both.position(), stands, atol=1e-3)
    assert both.double.following

    assert both.call("/safety_controller/reset").success
    assert both.reaches(SafetyState.IDLE, SafetyState.RUNNING, SafetyState.HOLDING)
    assert both.move(0.0).success
    assert both.bench.until(lambda: np.abs(both.position() - both.spec.home).max() < 0.01, 20.0)
    assert both.double.following


def test_a_widowx_gets_its_profile_before_it_is_commanded(pair: Callable[[str], Pair]) -> None:
    both = pair("widowx")
    assert both.reaches(SafetyState.IDLE)
    assert not both.double.profile.timed
    assert both.move(0.1).success
    assert both.bench.until(lambda: np.abs(both.position() - both.spec.home - 0.1).max() < 0.01, 20.0)


def test_a_controller_activated_again_starts_the_urs_program_again(pair: Callable[[str], Pair]) -> None:
    both = pair("ur5")
    running = both.bench.listen(Bool, both.bench.node._control.driver._adapter._program_topic)
    assert both.reaches(SafetyState.IDLE)
    assert both.bench.node.trigger_deactivate() is not None
    with both.simulator._lock:
        both.double.stop_program(both.simulator._world.sim_time)
    # the driver says so: it shares an executor with the controller, which may be slow to be activated
    assert both.bench.until(lambda: running and not running[-1].data)
    both.statuses.clear()
    both.bench.node.trigger_activate()
    assert both.reaches(SafetyState.IDLE)
    assert both.double.program_running


def test_a_controller_activated_again_follows_on_from_what_a_franka_is_told(
    pair: Callable[[str], Pair],
) -> None:
    both = pair("panda")
    assert both.reaches(SafetyState.IDLE)
    assert both.move(0.05).success
    assert both.bench.until(lambda: np.abs(both.position() - both.spec.home - 0.05).max() < 2e-3, 20.0)
    both.bench.until(lambda: False, 0.5)
    both.bench.node.trigger_deactivate()
    # as a cable would: the measured posture is not quite the commanded one
    world = both.simulator._world
    with both.simulator._lock:
        world.data.qfrc_applied[world._v] = 1.0
    both.bench.until(lambda: False, 0.5)
    assert 1e-5 < np.abs(both.position() - both.double._target).max() < 0.01
    both.statuses.clear()
    both.bench.node.trigger_activate()
    assert both.reaches(SafetyState.IDLE)
    both.bench.until(lambda: False, 0.5)
    assert both.double.following and both.double.error == ""
    assert both.move(0.0).success
    assert both.bench.until(lambda: np.abs(both.position() - both.spec.home).max() < 5e-3, 20.0)
    assert both.double.following


def test_recovering_a_driver_that_works_changes_nothing(pair: Callable[[str], Pair]) -> None:
    both = pair("panda")
    assert both.reaches(SafetyState.IDLE)
    answer = both.call("/safety_controller/recover")
    assert answer.success and "nothing to recover" in answer.message
