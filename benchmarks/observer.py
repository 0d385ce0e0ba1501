"""Listens to the graph without unpacking anything, and turns what it heard into arrays when all is over."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message

from benchmarks.cdr import ObservationStamps, observation_stamps
from vla_ros import msg
from vla_ros.nodes import topics
from vla_ros.nodes.base import VlaNode, run
from vla_ros.nodes.conversions import to_stamp
from vla_ros.nodes.parameters import Parameter
from vla_ros.types import NANOSECONDS

GRACE = 0.5
"""Seconds to listen on after the window, for what is still under way."""
WINDOW_FILE, LOG_FILE, COUNTS_FILE = "window.json", "observer.npz", "ingester.json"
DEEP = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


class Observer(VlaNode):
    """Announces the window of measurement at the first command, ends when the window is over.

    Files in the folder `output`: `window.json` when the window is known, the others at the end.
    """

    PARAMETERS = (
        Parameter("output", "", "Folder for the log."),
        Parameter("warm_up", 5.0, "Seconds from the first command to the window.", 0.0, 600.0),
        Parameter("seconds", 30.0, "Length of the window.", 0.1, 3600.0),
    )

    def __init__(self) -> None:
        super().__init__("observer")
        self._folder = Path(self.value("output"))
        self._end = 0
        self._observations: list[tuple[ObservationStamps, int, int]] = []
        self._heard: dict[type, list[tuple[int, bytes]]] = {}
        self.create_subscription(
            msg.Observation, topics.OBSERVATION, self._on_observation, topics.RELIABLE, raw=True
        )
        for kind, topic in (
            (msg.JointSetpoint, topics.JOINT_SETPOINT),
            (msg.PolicyOutput, topics.POLICY_OUTPUT),
            (msg.ActionChunk, topics.ACTION_CHUNK),
            (msg.SafetyStatus, topics.SAFETY_STATUS),
            (DiagnosticArray, topics.DIAGNOSTICS),
        ):
            self._listen(kind, topic)
        self.create_timer(0.05, self._look)

    def close(self) -> None:
        """Write the log."""
        if self._end:
            np.savez(self._folder / LOG_FILE, **self._arrays())
            (self._folder / COUNTS_FILE).write_text(json.dumps(self._ingester()), encoding="utf-8")

    def _listen(self, kind: type, topic: str) -> None:
        heard = self._heard[kind] = []

        def take(raw: bytes, info: Any) -> None:
            heard.append((int(info["source_timestamp"]), raw))

        self.create_subscription(kind, topic, take, DEEP, raw=True)

    def _on_observation(self, raw: bytes, info: Any) -> None:
        self._observations.append((observation_stamps(raw), int(info["source_timestamp"]), time.time_ns()))

    def _look(self) -> None:
        now = time.time_ns()
        if self._end:
            if now > self._end + GRACE * NANOSECONDS:
                self.stop(0)
            return
        setpoints = self._heard[msg.JointSetpoint]
        if setpoints and deserialize_message(setpoints[-1][1], msg.JointSetpoint).chunk_sequence > 0:
            begin = now + int(self.value("warm_up") * NANOSECONDS)
            self._end = begin + int(self.value("seconds") * NANOSECONDS)
            part = self._folder / (WINDOW_FILE + ".part")
            part.write_text(json.dumps({"begin": begin, "end": self._end}), encoding="utf-8")
            part.rename(self._folder / WINDOW_FILE)

    def _messages(self, kind: type) -> list[tuple[int, Any]]:
        return [(sent, deserialize_message(raw, kind)) for sent, raw in self._heard[kind]]

    def _arrays(self) -> dict[str, np.ndarray]:
        cameras = list(self._observations[0][0].cameras) if self._observations else []
        rows: dict[str, list[tuple[int, ...]]] = {
            "observations": [
                (o.stamp, o.sequence, sent, arrived, *(o.cameras[name] for name in cameras))
                for o, sent, arrived in self._observations
            ],
            "outputs": [
                (to_stamp(m.header.stamp), m.sequence, sent, to_stamp(m.published))
                for sent, m in self._messages(msg.PolicyOutput)
                if not m.error
            ],
            "chunks": [
                (to_stamp(m.header.stamp), m.sequence, sent) for sent, m in self._messages(msg.ActionChunk)
            ],
            "setpoints": [
                (to_stamp(m.header.stamp), m.tick, sent, m.chunk_sequence)
                for sent, m in self._messages(msg.JointSetpoint)
            ],
            "statuses": [
                (to_stamp(m.header.stamp), m.overruns, _ns(m.compute_p99), _ns(m.period_error_p99))
                for _, m in self._messages(msg.SafetyStatus)
            ],
        }
        arrays = {name: np.array(table, np.int64) for name, table in rows.items()}
        return {**arrays, "cameras": np.array(cameras, dtype=str)}

    def _ingester(self) -> list[dict[str, Any]]:
        """The ingester's counters, each time it told them."""
        return [
            {
                "stamp": to_stamp(m.header.stamp),
                "counts": {v.key: int(v.value) for v in status.values if v.key != topics.OBSERVATION_AGE},
                "complaint": status.message,
            }
            for _, m in self._messages(DiagnosticArray)
            for status in m.status
            if status.name == "ingester"
        ]


def _ns(seconds: float) -> int:
    return round(seconds * NANOSECONDS)


def main() -> int:
    """Entry point."""
    return run(Observer)


if __name__ == "__main__":
    sys.exit(main())
