"""A node under test, a probe that talks to it, and fixtures that give both a ROS domain of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn

from vla_ros.bringup.domain import claimed_domain
from vla_ros.nodes import topics

OK, REFUSED = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture(autouse=True, scope="module")
def domain() -> Iterator[int]:
    with claimed_domain() as number:
        yield number


class Bench:
    """One node under test, a probe that talks to it, and everything the probe heard."""

    def __init__(self, make: Callable[[], Any], **parameters: Any) -> None:
        arguments = ["--ros-args", "--log-level", "fatal"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={value}"]
        rclpy.init(args=arguments)
        self.node = make()
        self.probe = rclpy.create_node("probe")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.probe)
        self.heard: dict[str, list[Any]] = {}

    def up(self) -> None:
        assert self.node.trigger_configure() == OK
        assert self.node.trigger_activate() == OK

    def listen(self, kind: type, topic: str) -> list[Any]:
        heard = self.heard.setdefault(topic, [])
        self.probe.create_subscription(kind, topic, heard.append, topics.RELIABLE)
        return heard

    def talk(self, kind: type, topic: str, qos: Any = topics.RELIABLE) -> Any:
        publisher = self.probe.create_publisher(kind, topic, qos)
        assert self.until(lambda: publisher.get_subscription_count() > 0)
        return publisher

    def until(self, condition: Callable[[], bool], limit: float = 10.0) -> bool:
        deadline = time.monotonic() + limit
        while not condition() and time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.02)
        return condition()

    def now(self) -> int:
        return int(self.probe.get_clock().now().nanoseconds)

    def complaint(self) -> str:
        """The next complaint the node under test makes on /diagnostics."""
        heard = self.listen(DiagnosticArray, topics.DIAGNOSTICS)
        name = self.node.get_name()

        def complaints() -> list[str]:
            return [s.message for m in heard for s in m.status if s.name == name and s.message]

        assert self.until(lambda: bool(complaints()))
        return complaints()[-1]

    def close(self) -> None:
        self.node.close()
        self.executor.shutdown()
        self.node.destroy_node()
        self.probe.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(node: Callable[[], Any], **parameters: Any) -> Bench:
        made.append(Bench(node, **parameters))
        return made[-1]

    yield make
    for one in made:
        one.close()
