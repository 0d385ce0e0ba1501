"""The line to the driver against the simulated drivers: ready, faulted, recovered, never by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from node_bench import Bench
from own_robot import PAGE, make_files
from rclpy.task import Future
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from vla_ros.bringup.domain import claimed_domain
from vla_ros.errors import MachineError
from vla_ros.nodes import driver_link, topics
from vla_ros.nodes.driver_commands import ArmCommands, GripperCommands
from vla_ros.nodes.driver_link import DriverLink
from vla_ros.nodes.simulator import Simulator
from vla_ros.robots import load_robot
from vla_ros.robots.drivers.condition import StatusTopic

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True, scope="module")
def domain() -> Iterator[int]:
    with claimed_domain() as number:
        yield number


class Line:
    """A simulated robot, a node that commands it to stay, and the link."""

    def __init__(self, robot: str, patience: float = 100.0) -> None:
        self.spec = load_robot(robot)
        self.bench = Bench(
            Simulator,
            robot=robot,
            camera_width=64,
            camera_height=48,
            camera_rate=1.0,
            driver_patience=patience,
        )
        self.said: list[str] = []
        self.link = DriverLink(self.bench.probe, self.spec, self.said.append)
        self.arm = ArmCommands(self.bench.probe, self.spec)
        self.link.open()

    @property
    def double(self) -> Any:
        return self.bench.node._world.driver

    def ready(self) -> bool:
        return self.bench.until(lambda: self.link.condition().ready)

    def faulted(self, words: str) -> bool:
        return self.bench.until(lambda: words in self.link.condition().sentence)

    def call(self, name: str) -> Any:
        client = self.bench.probe.create_client(Trigger, name)
        assert self.bench.until(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        assert self.bench.until(future.done)
        return future.result()

    def recover(self) -> tuple[bool, str]:
        task: Future = self.bench.executor.create_task(self.link.recover)
        assert self.bench.until(task.done, 20.0)
        return task.result()

    def follow(self, offset: float) -> bool:
        """Command a posture near the present one, at rest there."""
        self.arm.send(self.double._target + offset)
        ignored = self.double.ignored
        time.sleep(0.02)
        self.bench.until(lambda: False, 0.1)
        return self.double.following and self.double.ignored == ignored

    def close(self) -> None:
        self.link.destroy(self.bench.probe)
        self.bench.close()


@pytest.fixture
def line() -> Iterator[Callable[..., Line]]:
    made: list[Line] = []

    def make(robot: str, **options: Any) -> Line:
        made.append(Line(robot, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_franka_reflex_is_reported_and_recovered_by_request_only(line: Callable[..., Line]) -> None:
    franka = line("panda")
    assert franka.ready() and franka.said == []
    assert franka.call("/simulator/trigger_reflex").success
    assert franka.faulted("the hand felt a collision (cartesian_reflex)")
    assert franka.link.condition().recoverable
    assert not franka.bench.until(lambda: franka.link.condition().ready, 1.0)
    done, sentence = franka.recover()
    assert done and "reset" in sentence
    assert franka.link.condition().ready and franka.double.following
    assert [word for word in franka.said if "reflex" in word and "driver:" in word]
    assert franka.follow(0.0)


def test_lost_packets_end_a_frankas_motion(line: Callable[..., Line]) -> None:
    franka = line("panda", patience=1.0)
    assert franka.ready() and franka.follow(0.0)
    assert franka.call("/simulator/lose_packets").success
    assert franka.faulted("too many packets were late or lost (communication_constraints_violation)")
    assert franka.recover()[0]


def test_a_ur_protective_stop_is_unlocked_and_the_program_restarted(line: Callable[..., Line]) -> None:
    ur = line("ur5")
    assert ur.ready()
    assert ur.call("/simulator/trigger_protective_stop").success
    assert ur.faulted("protective stop")
    begun = time.monotonic()
    done, _ = ur.recover()
    assert done and time.monotonic() - begun > 4.0
    assert ur.link.condition().ready and ur.double.following


def test_a_ur_whose_program_ended_is_not_started_again_by_itself(line: Callable[..., Line]) -> None:
    ur = line("ur5")
    assert ur.ready()
    assert ur.call("/dashboard_client/stop").success
    assert ur.faulted("program does not run")
    assert not ur.bench.until(lambda: ur.link.condition().ready, 3.0)
    assert ur.recover()[0]
    # a new activation is a decision too
    assert ur.call("/dashboard_client/stop").success
    assert ur.faulted("program does not run")
    ur.link.close()
    ur.link.open()
    assert ur.ready()


def test_a_slider_turned_down_stops_a_ur(line: Callable[..., Line]) -> None:
    ur = line("ur5")
    assert ur.ready()
    slider = ur.bench.talk(Float64, "/simulator/speed_slider", topics.RELIABLE)
    slider.publish(Float64(data=0.3))
    assert ur.faulted("scaled to 30%")
    done, sentence = ur.recover()
    assert not done and "cannot be recovered from here" in sentence
    slider.publish(Float64(data=1.0))
    assert ur.ready()


def test_a_widowx_is_set_up_before_streaming(line: Callable[..., Line]) -> None:
    widowx = line("widowx")
    assert widowx.double.profile.timed
    assert widowx.ready()
    assert (widowx.double.profile.timed, widowx.double.profile.velocity) == (False, 131)
    assert any("velocity profile" in word for word in widowx.said)


def test_a_widowx_without_torque_is_noticed_and_recovered(line: Callable[..., Line]) -> None:
    widowx = line("widowx")
    assert widowx.ready()
    with widowx.bench.node._lock:
        widowx.double.set_torque(False)
    assert widowx.faulted("no torque")
    assert widowx.recover()[0]
    assert widowx.double.torque and widowx.follow(0.0)


@pytest.mark.skipif(not PAGE.is_file(), reason="docs/ is not beside the tests")
def test_an_arm_behind_ros2_control_whose_controller_is_switched_off(
    line: Callable[..., Line], tmp_path: Path
) -> None:
    """And its gripper, which takes GripperCommand goals."""
    from controller_manager_msgs.srv import SwitchController

    arm = line(str(make_files(tmp_path) / "arm.yaml"))
    assert arm.ready() and arm.follow(0.01)
    gripper = GripperCommands(arm.bench.probe, arm.spec)
    world = arm.bench.node._world
    assert arm.bench.until(lambda: gripper.send(0.05) or abs(world.gripper_width() - 0.05) < 0.002, 10.0)
    gripper.destroy(arm.bench.probe)
    client = arm.bench.probe.create_client(SwitchController, "/controller_manager/switch_controller")
    assert arm.bench.until(client.service_is_ready)
    client.call_async(SwitchController.Request(deactivate_controllers=["arm_position_controller"]))
    assert arm.faulted("arm_position_controller is inactive")
    assert not arm.follow(0.01) and not arm.bench.until(lambda: arm.link.condition().ready, 0.5)
    assert arm.recover()[0]
    assert arm.ready() and arm.follow(0.01)


def test_a_ready_driver_needs_no_recovery(line: Callable[..., Line]) -> None:
    franka = line("panda")
    assert franka.ready()
    assert franka.recover() == (True, "the driver is ready; nothing to recover")


def test_a_driver_that_is_not_there_is_unknown_and_recovery_says_so() -> None:
    bench = Bench(Simulator, robot="panda", camera_rate=1.0, driver_patience=0.0)
    link = DriverLink(bench.probe, load_robot("panda"), lambda sentence: None)
    try:
        link.open()
        assert not bench.until(lambda: link.condition().ready, 1.0)
        assert not link.condition().known and "robot_state" in link.condition().sentence
        task = bench.executor.create_task(link.recover)
        assert bench.until(task.done)
        assert not task.result()[0]
    finally:
        link.destroy(bench.probe)
        bench.close()


def test_a_missing_message_package_is_a_plain_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strange:
        topics = (StatusTopic("/nowhere", "no_such_msgs/msg/State"),)
        questions = kinds = ()

    monkeypatch.setattr(driver_link, "make_adapter", lambda spec: Strange())
    with pytest.raises(MachineError, match="needs no_such_msgs/msg/State, but package no_such_msgs is not"):
        DriverLink(None, load_robot("panda"), print)


def test_commands_before_a_recovery_move_nothing(line: Callable[..., Line]) -> None:
    franka = line("panda")
    assert franka.ready()
    assert franka.call("/simulator/trigger_reflex").success
    assert franka.faulted("cartesian_reflex")
    before = franka.double._target.copy()
    assert not franka.follow(0.1)
    np.testing.assert_array_equal(franka.double._target, before)
