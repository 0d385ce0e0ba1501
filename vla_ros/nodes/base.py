"""What all nodes share: parameters from a table, refusals in plain sentences, one `main`.

A lifecycle node overrides `configure`, `activate`, `deactivate` and `cleanup`; any `VlaRosError` raised
there is logged as it is and refuses the transition, so nothing moves.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, ClassVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy._rclpy_pybind11 import RCLError
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from vla_ros.errors import VlaRosError
from vla_ros.nodes.__main__ import on_ending
from vla_ros.nodes.parameters import Parameter, declare
from vla_ros.nodes.plain_logger import PlainLogger

EMBEDDED = "VLA_ROS_EMBEDDED"
"""Process id of the embedded runner: the node ends when it is no longer its parent."""
WAKE_UP = 0.1
"""Seconds after which a spinning executor looks whether it was asked to stop."""


class NodeMixin:
    """Parameters, diagnostics and stopping, for plain and lifecycle nodes alike."""

    PARAMETERS: ClassVar[tuple[Parameter, ...]] = ()

    def get_logger(self: Any) -> PlainLogger:
        """The node's logger, for sentences that quote what came from outside."""
        if "_plain_logger" not in vars(self):
            self._plain_logger = PlainLogger(Node.get_logger(self).name)
        return self._plain_logger

    def _set_up(self: Any) -> None:
        self.exit_code = 0
        self._stop = threading.Event()
        declare(self, self.PARAMETERS)
        self._diagnostics = Node.create_publisher(self, DiagnosticArray, "/diagnostics", 10)

    def value(self: Any, name: str) -> Any:
        """Current value of a parameter."""
        return self.get_parameter(name).value

    def now(self: Any) -> int:
        """ROS time in nanoseconds."""
        return int(self.get_clock().now().nanoseconds)

    def stop(self, exit_code: int = 0) -> None:
        """Ask `run` to end this node's process."""
        self.exit_code = exit_code
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether the process was asked to end."""
        return self._stop.is_set()

    def diagnose(self: Any, error: str, values: Mapping[str, object]) -> None:
        """Publish this node's health; `error` is a plain sentence, empty when all is well."""
        status = DiagnosticStatus(
            level=DiagnosticStatus.ERROR if error else DiagnosticStatus.OK,
            name=self.get_name(),
            message=error,
            hardware_id="vla_ros",
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def close(self) -> None:
        """Release threads and files; called once before the node is destroyed."""


class VlaNode(NodeMixin, Node):
    """A node without a lifecycle."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        Node.__init__(self, name, **kwargs)
        self._set_up()


class VlaLifecycleNode(NodeMixin, LifecycleNode):
    """A lifecycle node whose refusals are plain sentences."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        LifecycleNode.__init__(self, name, **kwargs)
        self._set_up()
        # rclpy lets a transition that does not fit the state end the whole process
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state

    def _on_change_state(self, request: Any, response: Any) -> Any:
        try:
            return self._change_state(request, response)
        except RCLError:
            asked = request.transition.label or request.transition.id
            now = self._state_machine.current_state[1]
            self.get_logger().warning(f"Transition {asked} was refused: the node is {now}.")
            response.success = False
            return response

    def configure(self) -> None:
        """Validate everything, allocate; raise `VlaRosError` to refuse."""

    def activate(self) -> None:
        """Begin to work."""

    def deactivate(self) -> None:
        """Stop working; may be activated again."""

    def cleanup(self) -> None:
        """Give back what `configure` made."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `configure`."""
        return self._transition(self.configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `activate`."""
        return self._transition(self.activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `deactivate`."""
        return self._transition(self.deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `cleanup`."""
        return self._transition(self.cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `deactivate` when active, then `cleanup`."""
        if state.label == "active":
            self._transition(self.deactivate)
        return self._transition(self.cleanup)

    def _transition(self, step: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            step()
        except VlaRosError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception:
            self.get_logger().error(f"{step.__name__} failed unexpectedly:\n{traceback.format_exc()}")
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS


def run(
    make_node: Callable[[], Any],
    args: list[str] | None = None,
    before_end: Callable[[Any, SingleThreadedExecutor], None] | None = None,
) -> int:
    """Spin the node until SIGINT, SIGTERM, SIGHUP or `node.stop()`; the exit status for `sys.exit`.

    0 after a signal, the node's own code after `stop`, 2 when it could not start.  `before_end` is called
    with the node and its executor while both still work.
    """
    asked = threading.Event()

    def ask(signum: int, frame: FrameType | None) -> None:
        asked.set()

    on_ending(ask)
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s: %(message)s")
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    # not getppid() here: a runner that was killed during the imports would never be missed
    runner = os.environ.get(EMBEDDED, "")
    node = None
    executor = SingleThreadedExecutor()
    try:
        node = make_node()
        # what was imported stays (`nodes.__main__`): no collection looks through it in motion
        gc.freeze()
        gc.enable()
        executor.add_node(node)
        while not asked.is_set() and not node.stopping:
            executor.spin_once(timeout_sec=WAKE_UP)
            if runner and str(os.getppid()) != runner:
                break
        if before_end is not None:
            before_end(node, executor)
        return int(node.exit_code)
    except VlaRosError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        # a second Ctrl-C must not cut the tidying up short
        on_ending(signal.SIG_IGN)
        if node is not None:
            node.close()
            executor.remove_node(node)
            node.destroy_node()
        rclpy.try_shutdown()
