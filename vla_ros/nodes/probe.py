"""What a newcomer to the graph sees, as one line of JSON: `python -m vla_ros.nodes.probe [TOPIC ...]`.

The doctor runs it as a process of its own: a broken middleware then breaks nothing but the probe.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CompressedImage, Image

import vla_ros.msg

TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
PATIENCE = 2.0
"""How long publishers and frames are waited for [s]."""


def look(node: Node, topics: list[str]) -> dict[str, dict[str, Any]]:
    """Per topic: type ('' without a publisher), and width, height and encoding of a frame that came."""
    found: dict[str, dict[str, Any]] = {topic: {"type": ""} for topic in topics}
    subscriptions: dict[str, Any] = {}
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not all("frame" in entry for entry in found.values()):
        for topic in topics:
            publishers = node.get_publishers_info_by_topic(topic)
            if topic in subscriptions or not publishers:
                continue
            kind = publishers[0].topic_type
            found[topic]["type"] = kind
            if kind in TYPES:

                def received(message: Any, entry: dict[str, Any] = found[topic]) -> None:
                    size = [getattr(message, "width", 0), getattr(message, "height", 0)]
                    entry["frame"] = [*size, getattr(message, "encoding", "")]

                subscriptions[topic] = node.create_subscription(
                    TYPES[kind], topic, received, qos_profile_sensor_data
                )
        rclpy.spin_once(node, timeout_sec=0.1)
    return found


def main() -> None:
    """Print what is seen of the middleware and of the topics named on the command line."""
    rclpy.init()
    node = rclpy.create_node("vla_ros_doctor")
    answer = {
        "rclpy": version("rclpy"),
        "rmw": get_rmw_implementation_identifier(),
        "interfaces": vla_ros.msg.Observation.__name__,
        "topics": look(node, sys.argv[1:]),
    }
    node.destroy_node()
    rclpy.shutdown()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
