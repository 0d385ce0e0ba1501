"""The panel of `teleop`: what was heard of the graph, drawn on the person's terminal."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any

from vla_ros import msg
from vla_ros.nodes import topics
from vla_ros.nodes.episode import Outcome
from vla_ros.teleop.devices.keyboard import PRESSES, key_table
from vla_ros.teleop.devices.terminal import Terminal
from vla_ros.teleop.motion import LEVELS, Motion
from vla_ros.teleop.panel import Painter, PanelState, panel_lines
from vla_ros.types import SafetyState, Source

WINDOW = 2.0
"""Seconds over which rates are shown."""
LEAVE = ("Ctrl-C", "end everything")
"""The last line of the key card."""


class View:
    """Listens to what is worth showing."""

    def __init__(self, node: Any, terminal: Terminal | None, device: Any) -> None:
        """Draws nothing where there is no terminal."""
        self._terminal, self._device = terminal, device
        self._painter = Painter()
        self._help = False
        self.note = ""
        """An answer to the last key, one plain sentence."""
        self.actions = 0
        """Published so far."""
        self._observations = 0
        self._counted: deque[tuple[float, int, int]] = deque()
        self._safety, self._intervention, self._width = "unknown", "", 0.0
        self._recorder: msg.RecorderStatus | None = None
        if terminal is None:
            return
        node.create_subscription(
            msg.Observation, topics.OBSERVATION, self._on_observation, topics.NEWEST, raw=True
        )
        node.create_subscription(
            msg.RecorderStatus, topics.RECORDER_STATUS, self._on_recorder, topics.RELIABLE
        )

    def toggle_help(self) -> None:
        """Show the keys, or hide them."""
        self._help = not self._help

    def on_safety(self, message: msg.SafetyStatus) -> None:
        """A status of the safety controller."""
        state = SafetyState(message.state).name
        self._safety = f"{state}: {message.message}" if message.message else state
        self._width = message.gripper_width
        for item in message.interventions:
            self._intervention = f"{item.reason} {item.subject}".strip()

    def _on_observation(self, data: bytes) -> None:
        self._observations += 1

    def _on_recorder(self, message: msg.RecorderStatus) -> None:
        self._recorder = message

    def draw(
        self,
        in_charge: Source,
        engaged: bool,
        motion: Motion,
        status: msg.EpisodeStatus,
        trouble: str,
        doing: str,
    ) -> None:
        """Bring the panel up to date."""
        if self._terminal is None:
            return
        recorder = self._recorder
        state = PanelState(
            in_charge=in_charge.name.lower(),
            device=self._device.name,
            engaged=engaged,
            speed=motion.speed,
            level=motion.level,
            levels=len(LEVELS),
            closed=motion.closed,
            width=self._width,
            doing=doing,
            episode=status.episode_id,
            outcome=Outcome(status.outcome).name,
            elapsed=status.elapsed,
            steps=int(status.steps),
            instruction=status.instruction,
            rates=self._rates(),
            recording="" if recorder is None else (os.path.basename(recorder.path) or "waiting"),
            dropped=0 if recorder is None else int(recorder.dropped),
            disk_free=-1 if recorder is None else int(recorder.disk_free),
            safety=self._safety,
            intervention=self._intervention,
            trouble=trouble or (recorder.error if recorder is not None else "") or self.note,
            keys=self._keys() if self._help else (),
        )
        text = self._painter.paint(panel_lines(state, self._terminal.columns()))
        if text:
            self._terminal.write(text)

    def _keys(self) -> tuple[tuple[str, str], ...]:
        if self._device.name == "keyboard":
            return (*key_table(), LEAVE)
        named = {what for _, what in PRESSES.values()}
        return (*self._device.keys, *(row for row in key_table() if row[1] in named), LEAVE)

    def end(self) -> None:
        """Leave the cursor below the panel."""
        if self._terminal is not None:
            self._terminal.write("\r\n")

    def _rates(self) -> dict[str, float]:
        now = time.monotonic()
        self._counted.append((now, self._observations, self.actions))
        while now - self._counted[0][0] > WINDOW:
            self._counted.popleft()
        since, observations, actions = self._counted[0]
        seconds = max(now - since, 1e-3)
        rates = {
            "observations": (self._observations - observations) / seconds,
            "actions": (self.actions - actions) / seconds,
        }
        if self._recorder is not None:
            for topic, rate in zip(self._recorder.topics, self._recorder.rates, strict=False):
                if "image" in topic and "camera_info" not in topic:
                    rates[topic.strip("/").split("/")[0]] = float(rate)
        return rates
