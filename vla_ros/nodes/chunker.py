"""Node `chunker`: a policy's answer to timed targets in metres and radians, or to a refusal."""

from __future__ import annotations

import sys
from collections import Counter

from rclpy.clock import Clock, ClockType

from vla_ros import msg
from vla_ros.actions import decode
from vla_ros.actions.gripper import GripperMemory
from vla_ros.control.loop import set_priority
from vla_ros.errors import ActionError
from vla_ros.execution.authority import Authority
from vla_ros.nodes import topics
from vla_ros.nodes.base import VlaLifecycleNode, run
from vla_ros.nodes.contracts import CONTRACT_PARAMETERS, contract_of
from vla_ros.nodes.conversions import action_chunk_message, to_policy_output, to_stamp
from vla_ros.nodes.parameters import Parameter
from vla_ros.nodes.polling import Polled, taken, unused
from vla_ros.policies.registry import policy_scaling
from vla_ros.types import NANOSECONDS, Source


class Chunker(VlaLifecycleNode):
    """Publishes a chunk for every valid output of who is in charge and nothing for any other."""

    PARAMETERS = (
        *CONTRACT_PARAMETERS,
        Parameter("max_age", 10.0, "Outputs of older observations are refused [s].", 0.1, 600.0),
        Parameter("priority", 40, "SCHED_FIFO priority, for it stands before a command; 0: none.", 0, 99),
        Parameter("max_future", 0.02, "Outputs of observations further ahead are refused [s].", 0.0, 1.0),
    )

    def __init__(self) -> None:
        super().__init__("chunker")

    def configure(self) -> None:
        """Load the contract and how the policy's answers are scaled, create the publisher."""
        self._contract = contract_of(self)
        self._scaling = policy_scaling(self._contract)
        self._max_age = int(self.value("max_age") * NANOSECONDS)
        self._max_future = int(self.value("max_future") * NANOSECONDS)
        self._counts: Counter[str] = Counter()
        self._problem = ""
        self._authority = Authority()
        self._gripper = GripperMemory(self._contract.action_space.gripper, self._contract.robot.gripper)
        self._publisher = self.create_publisher(msg.ActionChunk, topics.ACTION_CHUNK, topics.RELIABLE)

    def activate(self) -> None:
        """Begin to listen."""
        set_priority(self.value("priority"))
        # polled: who is in charge must be known before the output that came right behind is judged
        self._announced = self.create_subscription(
            msg.Authority, topics.AUTHORITY, unused, topics.LATCHED, callback_group=Polled()
        )
        self._subscription = self.create_subscription(
            msg.PolicyOutput, topics.POLICY_OUTPUT, self._on_output, topics.RELIABLE
        )
        self._timer = self.create_timer(0.5, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def deactivate(self) -> None:
        """Stop listening."""
        self.close()
        self.destroy_subscription(self._subscription)
        self.destroy_subscription(self._announced)
        self.destroy_timer(self._timer)

    def close(self) -> None:
        """The node ends: its thread is no longer real-time."""
        set_priority(0)

    def cleanup(self) -> None:
        """Give the publisher back."""
        self.destroy_publisher(self._publisher)

    def _on_output(self, message: msg.PolicyOutput) -> None:
        if message.error or (message.terminate and not message.values and not message.tokens):
            return
        try:
            output = to_policy_output(message)
            self._hear_who_is_in_charge()
            if not self._authority.allows(output.source, output.stamp):
                return
            self._check_stamp(output.stamp)
            before = self._gripper.at(output.stamp)
            space, gripper = self._contract.action_space, self._contract.robot.gripper
            # a person's actions are physical, whatever the scaling of the policy
            scaling = (None, None) if output.source is Source.PERSON else self._scaling
            chunk = decode(output, space, gripper, *scaling, before)
        except ActionError as error:
            self._counts["refused"] += 1
            self._problem = f"Policy output {message.sequence} of '{message.policy}' was refused: {error}"
            self.get_logger().error(self._problem, throttle_duration_sec=1.0)
            self._report()
            return
        self._counts["chunks"] += 1
        self._problem = ""
        self._gripper.remember(chunk)
        result = action_chunk_message(chunk, self._contract.robot.base_frame)
        result.output_published = message.published
        self._publisher.publish(result)

    def _hear_who_is_in_charge(self) -> None:
        for message, _ in taken(self._announced):
            self._authority.announce(Source(message.source), to_stamp(message.header.stamp), message.device)

    def _check_stamp(self, stamp: int) -> None:
        age = self.now() - stamp
        if age > self._max_age:
            raise ActionError(
                f"its observation is {age / NANOSECONDS:.2f} s old, "
                f"allowed are {self._max_age / NANOSECONDS:g} s"
            )
        if -age > self._max_future:
            raise ActionError(
                f"its observation is {-age / NANOSECONDS:.2f} s in the future, "
                f"allowed are {self._max_future / NANOSECONDS:g} s"
            )

    def _report(self) -> None:
        self._hear_who_is_in_charge()
        values: dict[str, object] = {"chunks": self._counts["chunks"], "refused": self._counts["refused"]}
        values["in charge"] = self._authority.source.name.lower()
        for source, count in self._authority.refused.items():
            values[f"not in charge: {source}"] = count
        self.diagnose(self._problem, values)


def main() -> int:
    """Entry point."""
    return run(Chunker)


if __name__ == "__main__":
    sys.exit(main())
