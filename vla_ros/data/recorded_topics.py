"""Which topics a recording holds."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.contract import Contract
from vla_ros.data.message_types import full_name
from vla_ros.errors import ConfigurationError

OBSERVATION = "/vla/observation"
EPISODE_STATUS = "/vla/episode_status"
AUTHORITY = "/vla/authority"
_QUALITIES = ("reliable", "best_effort", "latched")


@dataclass(frozen=True)
class RecordedTopic:
    """A topic to subscribe: its type (package/msg/Name) and the quality of service."""

    name: str
    type_name: str
    quality: str = "best_effort"
    """reliable, best_effort or latched (reliable and transient local)."""


def parse_topic(text: str) -> RecordedTopic:
    """Read `name:type[:reliable|best_effort|latched]`.  Raises `ConfigurationError`."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[0].startswith("/"):
        raise ConfigurationError(
            f"topic to record '{text}' is not written /name:package/Type[:{'|'.join(_QUALITIES)}]."
        )
    quality = parts[2] if len(parts) == 3 else "best_effort"
    if quality not in _QUALITIES:
        raise ConfigurationError(
            f"topic to record '{text}': quality '{quality}' is unknown, known are {', '.join(_QUALITIES)}."
        )
    return RecordedTopic(parts[0], full_name(parts[1]), quality)


def camera_info_topic(camera_topic: str) -> str:
    """Where a camera's calibration is published: `camera_info` beside `image_raw`."""
    return f"{camera_topic.removesuffix('/compressed').rsplit('/', 1)[0]}/camera_info"


def contract_topics(contract: Contract, clock: bool = False) -> list[RecordedTopic]:
    """Everything a run of this contract is judged by: cameras, driver, and the package's own topics.

    `clock`: record `/clock` too.
    """
    driver = contract.robot.driver
    wanted = [
        ("/vla/joint_setpoint", "vla_ros/JointSetpoint", "reliable"),
        ("/vla/safety_status", "vla_ros/SafetyStatus", "reliable"),
        ("/vla/action_chunk", "vla_ros/ActionChunk", "reliable"),
        ("/vla/policy_output", "vla_ros/PolicyOutput", "reliable"),
        (OBSERVATION, "vla_ros/Observation", "reliable"),
        ("/vla/instruction", "std_msgs/String", "latched"),
        ("/vla/control_events", "std_msgs/String", "latched"),
        ("/simulator/scene", "std_msgs/String", "latched"),
        (AUTHORITY, "vla_ros/Authority", "latched"),
        (EPISODE_STATUS, "vla_ros/EpisodeStatus", "reliable"),
        ("/simulator/episode_status", "vla_ros/EpisodeStatus", "reliable"),
        ("/diagnostics", "diagnostic_msgs/DiagnosticArray", "reliable"),
        (driver.joint_state_topic, "sensor_msgs/JointState", "best_effort"),
        (driver.command_topic, driver.command_type, "reliable"),
    ]
    gripper = driver.gripper
    if gripper.get("joint_state_topic"):
        wanted.append((str(gripper["joint_state_topic"]), "sensor_msgs/JointState", "best_effort"))
    if gripper.get("kind") == "topic":
        wanted.append((str(gripper["name"]), str(gripper["type"]), "reliable"))
    if driver.extra.get("wrench_topic"):
        wanted.append((str(driver.extra["wrench_topic"]), "geometry_msgs/WrenchStamped", "best_effort"))
    for camera in contract.cameras.values():
        kind = "sensor_msgs/CompressedImage" if camera.compressed else "sensor_msgs/Image"
        wanted.append((camera.topic, kind, "best_effort"))
        wanted.append((camera_info_topic(camera.topic), "sensor_msgs/CameraInfo", "best_effort"))
    if clock:
        wanted.append(("/clock", "rosgraph_msgs/Clock", "best_effort"))
    topics = {name: RecordedTopic(name, full_name(kind), quality) for name, kind, quality in wanted}
    return list(topics.values())
