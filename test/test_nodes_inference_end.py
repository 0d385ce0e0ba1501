"""What the inference node makes of a policy that fails, and of one whose process it has ended itself."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from vla_ros import msg
from vla_ros.errors import PolicyError
from vla_ros.nodes.inference import Inference


class Bare(Inference):
    """Without ROS: what the node would log and publish."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._isolated: Any = None
        self._worker = None
        self._running = True
        self._counts = Counter()
        self._problem, self._policy_name = "", "custom"
        self.errors: list[str] = []
        self.published: list[msg.PolicyOutput] = []

    def get_logger(self) -> Any:
        return self

    def error(self, sentence: str, **options: Any) -> None:
        self.errors.append(sentence)

    def _publish(self, output: msg.PolicyOutput, instruction: str) -> None:
        self.published.append(output)


def fails() -> None:
    raise PolicyError("Policy 'custom' was closed.")


def test_a_policy_that_fails_is_an_error_for_all_to_see() -> None:
    node = Bare()
    assert node._guarded(fails, None, "go") is None
    assert node.errors == ["Policy 'custom' was closed."] and node._counts["errors"] == 1
    assert node.published[0].error == node.errors[0]


def test_an_answer_that_ends_because_the_node_ends_is_no_error() -> None:
    node = Bare()
    seen: list[bool] = []

    class Isolated:
        def close(self) -> None:
            # the worker's request raises here, in the worker's thread
            seen.append(node._guarded(fails, None, "go") is None)

    node._isolated = Isolated()
    node.close()
    assert seen == [True] and node.errors == [] and node.published == [] and node._counts["errors"] == 0
