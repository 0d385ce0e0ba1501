"""Node `recorder`: every topic of a run, as it came, into an MCAP bag."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from vla_ros.contract import load_contract
from vla_ros.data.recorded_topics import RecordedTopic, contract_topics, parse_topic
from vla_ros.data.recording import Recording
from vla_ros.errors import ConfigurationError, MachineError
from vla_ros.nodes.base import VlaNode, run
from vla_ros.nodes.parameters import Parameter
from vla_ros.nodes.polling import Polled, taken, unused

DEPTH = 1000
POLL_PERIOD = 0.02


class Recorder(VlaNode):
    """Takes what has come from raw subscriptions every 20 ms, queues it, and lets a thread write.

    A message's stamp in the bag is the time its publisher sent it, moved to ROS time under `use_sim_time`.
    """

    PARAMETERS = (
        Parameter("output", "", "Folder of the bag to make; must not exist."),
        Parameter("contract", "", "Name of a robot, or path of a contract: its topics are recorded."),
        Parameter("topics", [""], "Further topics, each /name:package/Type[:reliable|best_effort|latched]."),
        Parameter(
            "max_queue", 256, "Megabytes that may wait for the disk before messages are dropped.", 1, 65536
        ),
        Parameter("cameras", True, "Whether the contract's camera topics are recorded."),
        Parameter(
            "observation_pixels", False, "Keep the images inside observations (the cameras have them)."
        ),
    )

    def __init__(self) -> None:
        super().__init__("recorder")
        simulated_time = bool(self.value("use_sim_time"))
        self._ros_time = simulated_time
        self._polled = Polled()
        self._recording: Recording | None = None
        topics = [parse_topic(text) for text in self.value("topics") if text]
        metadata: dict[str, str] = {}
        if self.value("contract"):
            contract = load_contract(self.value("contract"))
            images = {camera.topic for camera in contract.cameras.values()}
            wanted = contract_topics(contract, clock=simulated_time)
            topics = [t for t in wanted if self.value("cameras") or t.name not in images] + topics
            metadata = {
                "contract": contract.to_yaml(),
                "robot": contract.robot.yaml_path.read_text(encoding="utf-8"),
                "urdf": contract.robot.urdf_path.read_text(encoding="utf-8"),
            }
        if not topics:
            raise ConfigurationError("recorder: neither 'contract' nor 'topics' says what to record.")
        if not self.value("output"):
            raise ConfigurationError("recorder: parameter 'output' is empty; it names the bag to make.")
        kinds = {topic.name: _message_class(topic) for topic in topics}
        self._path = Path(self.value("output"))
        self._recording = Recording(
            self._path, topics, metadata, self.value("max_queue") << 20, self.value("observation_pixels")
        )
        self._topics = {topic.name: topic for topic in topics}
        self._subscribed = {
            topic.name: self._subscribe(topic, kinds[topic.name], topic.quality) for topic in topics
        }
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(POLL_PERIOD, self._take, clock=steady)
        self.create_timer(0.5, self._look, clock=steady)

    def close(self) -> None:
        """Write what waits, close the bag, say what was recorded."""
        if self._recording is None:
            return
        self._take()
        recording, self._recording = self._recording, None
        recording.close()
        lines = [f"{self._path}: {sum(recording.counts.values())} messages"]
        lines += [
            f"  {name}: {recording.counts[name]}"
            + (f", {recording.dropped[name]} dropped" if recording.dropped[name] else "")
            for name in self._topics
        ]
        if recording.error:
            lines.append(recording.error)
            self.exit_code = 2
        print("\n".join(lines), file=sys.stderr, flush=True)

    def _subscribe(self, topic: RecordedTopic, kind: type, quality: str) -> Any:
        qos = QoSProfile(
            depth=DEPTH if quality == "reliable" else 100,
            reliability=ReliabilityPolicy.BEST_EFFORT
            if quality == "best_effort"
            else ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL
            if quality == "latched"
            else DurabilityPolicy.VOLATILE,
        )
        return self.create_subscription(kind, topic.name, unused, qos, callback_group=self._polled, raw=True)

    def _take(self) -> None:
        """Queue every message that has come."""
        if self._recording is None:
            return
        now = self.now()
        offset = now - time.time_ns() if self._ros_time else 0
        for name, subscription in self._subscribed.items():
            for raw, info in taken(subscription):
                sent = info["source_timestamp"]
                self._recording.put(name, sent + offset if sent else now, raw)

    def _look(self) -> None:
        """Stop when the disk refuses; match publishers that offer less than was asked for."""
        if self._recording is not None and self._recording.error:
            self.get_logger().error(self._recording.error)
            self.stop(2)
        for name, topic in self._topics.items():
            subscription = self._subscribed[name]
            if subscription.qos_profile.reliability != ReliabilityPolicy.RELIABLE:
                continue
            offers = [info.qos_profile.reliability for info in self.get_publishers_info_by_topic(name)]
            if ReliabilityPolicy.BEST_EFFORT in offers:
                self.get_logger().warning(f"{name} is published best effort; losses are possible.")
                self.destroy_subscription(subscription)
                self._subscribed[name] = self._subscribe(topic, _message_class(topic), "best_effort")


def _message_class(topic: RecordedTopic) -> type:
    package, folder, name = topic.type_name.split("/")
    try:
        kind: type = getattr(import_module(f"{package}.{folder}"), name)
    except (AttributeError, ImportError) as error:
        raise MachineError(
            f"the message type {topic.type_name} of topic {topic.name} is not installed here, "
            "so it cannot be recorded."
        ) from error
    return kind


def main() -> int:
    """Entry point."""
    return run(Recorder)


if __name__ == "__main__":
    sys.exit(main())
