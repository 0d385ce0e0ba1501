"""Node `recorder`: every topic of a run, as it came, into an MCAP bag, or into one bag an episode."""

from __future__ import annotations

import struct
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from vla_ros.data.bag import METADATA_TOPIC
from vla_ros.data.calibration import calibration_text
from vla_ros.data.episode_bags import EpisodeBags
from vla_ros.data.image_encoding import IMAGES
from vla_ros.data.recorded_topics import RecordedTopic, camera_info_topic, contract_topics, parse_topic
from vla_ros.data.recording import Recording
from vla_ros.data.ros_time import RosTime
from vla_ros.errors import ConfigurationError, MachineError
from vla_ros.nodes.base import VlaNode, run
from vla_ros.nodes.contracts import CONTRACT_PARAMETERS, contract_of
from vla_ros.nodes.parameters import Parameter
from vla_ros.nodes.polling import Polled, taken, unused
from vla_ros.nodes.recorder_report import RecorderReport
from vla_ros.nodes.topics import JOINT_SETPOINT
from vla_ros.types import NANOSECONDS

DEPTH = 2000
IMAGE_DEPTH = 100
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
POLL_PERIOD = 0.02
OUTLIVES, QUIET = 1.5, 0.2
"""Seconds for which setpoints are still recorded when the process was asked to end, and without one after
which it does: the safety controller, asked at the same time, needs half a second to stop the robot."""


class Recorder(VlaNode):
    """Takes what has come from raw subscriptions every 20 ms, queues it, and lets a thread write.

    A message's stamp in the bag is the time its publisher sent it, moved to ROS time under `use_sim_time`.
    """

    PARAMETERS = (
        Parameter(
            "output", "", "Folder of the bag to make, must not exist; with `per_episode` a folder of bags."
        ),
        Parameter(
            "per_episode", False, "One bag an episode; discarded ones are moved to `discarded` beside them."
        ),
        Parameter(
            "images", "raw", "How camera images are kept; JPEG and H.264 lose a little.", choices=IMAGES
        ),
        Parameter("image_quality", 90, "Of JPEG and H.264.", 1, 100),
        Parameter(
            "contract", "", "Name of a robot, or path of a contract: its topics are recorded, it in the bag."
        ),
        *(row for row in CONTRACT_PARAMETERS if row.name != "contract"),
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
        self._ros_time = RosTime() if simulated_time else None
        self._polled = Polled()
        self._recording: Recording | EpisodeBags | None = None
        self._setpoint_at = -QUIET
        topics = [parse_topic(text) for text in self.value("topics") if text]
        metadata: dict[str, str] = {}
        if self.value("contract"):
            contract = contract_of(self)
            images = {camera.topic for camera in contract.cameras.values()}
            images |= {camera_info_topic(topic) for topic in images}
            wanted = contract_topics(contract, clock=simulated_time)
            topics = [t for t in wanted if self.value("cameras") or t.name not in images] + topics
            metadata = {
                "contract": contract.to_yaml(),
                "robot": contract.robot.yaml,
                "urdf": contract.robot.urdf,
                "calibration": calibration_text(contract.cameras),
            }
        if not topics:
            raise ConfigurationError("recorder: neither 'contract' nor 'topics' says what to record.")
        if not self.value("output"):
            raise ConfigurationError("recorder: parameter 'output' is empty; it names the bag to make.")
        kinds = {topic.name: _message_class(topic) for topic in topics}
        self._path = Path(self.value("output"))
        options = {
            "max_queue": self.value("max_queue") << 20,
            "observation_pixels": self.value("observation_pixels"),
            "images": self.value("images"),
            "image_quality": self.value("image_quality"),
        }
        if self.value("per_episode"):
            self._recording = EpisodeBags(self._path, topics, metadata, **options)
        else:
            metadata["started"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            self._recording = Recording(self._path, topics, metadata, **options)
        self._topics = {topic.name: topic for topic in topics}
        self._subscribed = {
            topic.name: self._subscribe(topic, kinds[topic.name], topic.quality) for topic in topics
        }
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(POLL_PERIOD, self._take, clock=steady)
        self.create_timer(0.5, self._look, clock=steady)
        self._status = RecorderReport(self, list(self._topics))
        self.create_timer(0.5, self._report, clock=steady)

    def outlive_setpoints(self, executor: Any) -> None:
        """What the robot did until it stood belongs to the run: record on until no setpoint comes."""
        begun = time.monotonic()
        while time.monotonic() < min(begun + OUTLIVES, self._setpoint_at + QUIET):
            executor.spin_once(timeout_sec=0.01)

    def close(self) -> None:
        """Write what waits, close the bag, say what was recorded."""
        if self._recording is None:
            return
        self._take()
        recording, self._recording = self._recording, None
        recording.close()
        bags = f" in {len(recording.bags)} bags" if isinstance(recording, EpisodeBags) else ""
        lines = [f"{self._path}: {sum(recording.counts.values())} messages{bags}"]
        lines += [
            f"  {name}: {recording.counts[name]}"
            + (f", {recording.dropped[name]} dropped" if recording.dropped[name] else "")
            for name in [*self._topics, *sorted(set(recording.counts) - set(self._topics) - {METADATA_TOPIC})]
        ]
        if isinstance(recording, Recording):
            lines += [
                f"  {name}: mean PSNR {loss['mean_psnr']} dB, lowest {loss['min_psnr']} dB"
                for name, loss in recording.image_loss.items()
            ]
        if recording.error:
            lines.append(recording.error)
            self.exit_code = 2
        print("\n".join(lines), file=sys.stderr, flush=True)

    def _subscribe(self, topic: RecordedTopic, kind: type, quality: str) -> Any:
        qos = QoSProfile(
            # As many as may come while this process is not scheduled for a second; images are few and large.
            depth=IMAGE_DEPTH if topic.type_name in IMAGE_TYPES else DEPTH,
            reliability=ReliabilityPolicy.BEST_EFFORT
            if quality == "best_effort"
            else ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL
            if quality == "latched"
            else DurabilityPolicy.VOLATILE,
        )
        return self.create_subscription(kind, topic.name, unused, qos, callback_group=self._polled, raw=True)

    def _report(self) -> None:
        if self._recording is not None:
            self._status.publish(self._recording)

    def _take(self) -> None:
        """Queue every message that has come."""
        if self._recording is None:
            return
        now = self.now()
        come = {name: list(taken(subscription)) for name, subscription in self._subscribed.items()}
        if self._ros_time is not None:
            for raw, info in come.get("/clock", ()):
                # CDR: four bytes of encapsulation, then seconds and nanoseconds
                seconds, nanoseconds = struct.unpack_from("<iI", raw, 4)
                told = info["source_timestamp"] or time.time_ns()
                self._ros_time.read(told, seconds * NANOSECONDS + nanoseconds)
            if "/clock" not in come:
                self._ros_time.read(time.time_ns(), now)
        for name, messages in come.items():
            if name == JOINT_SETPOINT and messages:
                self._setpoint_at = time.monotonic()
            for raw, info in messages:
                sent = info["source_timestamp"]
                self._recording.put(name, self._sent_at(sent) if sent else now, raw)
                self._status.count(name)

    def _sent_at(self, machine: int) -> int:
        return machine if self._ros_time is None else self._ros_time.at(machine)

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
    return run(Recorder, before_end=Recorder.outlive_setpoints)


if __name__ == "__main__":
    sys.exit(main())
