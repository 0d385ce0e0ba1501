"""Drives `teleop` by keys through a pseudo-terminal, and hears what comes of it."""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rclpy
from late_machine import StoppedError
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String

from vla_ros import msg
from vla_ros.bringup.graph import GraphOptions, TeleopOptions
from vla_ros.bringup.session import Session, prepared, session
from vla_ros.nodes import topics
from vla_ros.nodes.conversions import to_stamp
from vla_ros.nodes.episode import Outcome
from vla_ros.types import SafetyState

REPEAT = 0.033
"""Between the repeats of a key that is held [s]."""


class Keys:
    """The person's side of a pseudo-terminal."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        self.path = os.ttyname(self._slave)
        self._text = ""
        self._running = True
        self._reader = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while self._running:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self._text += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:
                    return

    @property
    def screen(self) -> str:
        """Everything drawn so far, without the escape sequences."""
        return re.sub(r"\x1b\[[0-9]*[A-Z]", "", self._text)

    def tap(self, key: str) -> None:
        """Press a key once."""
        os.write(self.master, key.encode())

    def hold(self, key: str, seconds: float) -> None:
        """Hold a key down: it repeats."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tap(key)
            time.sleep(REPEAT)

    def play(self, script: Iterable[tuple[str, float]]) -> None:
        """(key, seconds): hold each for so long; 0: tap it; an empty key: wait."""
        for key, seconds in script:
            if not key:
                time.sleep(seconds)
            elif seconds > 0.0:
                self.hold(key, seconds)
            else:
                self.tap(key)
                time.sleep(0.05)

    def hang_up(self) -> None:
        """Close the terminal, as a window that is closed does."""
        self._running = False
        self._reader.join(timeout=1.0)
        for descriptor in (self.master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)
        self.master = self._slave = -1


@dataclass
class Heard:
    """What came on the topics that matter, oldest first."""

    outputs: list[Any] = field(default_factory=list)
    chunks: list[Any] = field(default_factory=list)
    authority: list[Any] = field(default_factory=list)
    status: list[Any] = field(default_factory=list)
    episodes: list[Any] = field(default_factory=list)
    scenes: list[Any] = field(default_factory=list)

    @property
    def tool(self) -> Any:
        """Commanded position of the tool now [m]."""
        p = self.status[-1].reference_pose.position
        return (p.x, p.y, p.z)

    def stamps(self) -> list[int]:
        return [to_stamp(message.header.stamp) for message in self.outputs]


@dataclass
class Drive:
    """A running graph with a person in it."""

    keys: Keys
    heard: Heard
    running: Session

    def until(self, condition: Callable[[], Any], limit: float = 20.0) -> bool:
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.02)
        return bool(condition())

    @property
    def stopped(self) -> str:
        """Why the controller waits for a reset, or nothing."""
        status = self.heard.status[-1]
        latched = status.state in (SafetyState.STOPPED, SafetyState.FAULT)
        return f"{SafetyState(status.state).name}: {status.message}" if latched else ""

    def start_episode(self) -> None:
        """Press Enter and wait for the episode to run.  Raises `StoppedError`."""
        before = self.heard.episodes[-1].episode_id if self.heard.episodes else ""

        def begun() -> bool:
            return bool(self.heard.episodes) and self.heard.episodes[-1].episode_id != before

        self.keys.tap("\n")
        self.until(lambda: begun() or self.stopped, 60.0)
        if self.stopped:
            raise StoppedError(self.stopped)
        assert begun() and self.heard.episodes[-1].outcome == Outcome.RUNNING, self.words()

    def words(self) -> str:
        """What the nodes that start an episode said, for a test that fails."""
        logs = [self.running.folder / "log" / f"{name}.log" for name in ("teleop", "supervisor")]
        return "\n".join(f"{log.stem}: {log.read_text(encoding='utf-8')[-800:]}" for log in logs)

    def at_rest(self, limit: float = 5.0) -> bool:
        return self.until(lambda: not self.heard.status[-1].moving, limit)


@contextmanager
def driven(folder: Path, options: GraphOptions, teleop: TeleopOptions) -> Iterator[Drive]:
    """The graph of `options` with a keyboard that `Drive.keys` presses.

    What goes wrong in it goes on as `StoppedError` where the robot was stopped.
    """
    from dataclasses import replace

    keys, heard = Keys(), Heard()
    options = replace(options, teleop=replace(teleop, terminal=keys.path))
    with session(prepared(options, folder), folder, lambda name, line: None) as running:
        running.wait_up()
        node = rclpy.create_node("listener")
        for kind, topic, into, quality in (
            (msg.PolicyOutput, topics.POLICY_OUTPUT, heard.outputs, topics.RELIABLE),
            (msg.ActionChunk, topics.ACTION_CHUNK, heard.chunks, topics.RELIABLE),
            (msg.Authority, topics.AUTHORITY, heard.authority, topics.LATCHED),
            (msg.SafetyStatus, topics.SAFETY_STATUS, heard.status, topics.RELIABLE),
            (msg.EpisodeStatus, topics.EPISODE_STATUS, heard.episodes, topics.RELIABLE),
            (String, topics.SIMULATOR_SCENE, heard.scenes, topics.LATCHED),
        ):
            node.create_subscription(kind, topic, into.append, quality)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        thread = threading.Thread(target=_spin, args=(executor,), daemon=True)
        thread.start()
        drive = Drive(keys, heard, running)
        try:
            assert drive.until(lambda: heard.status and heard.authority, 20.0)
            try:
                yield drive
            except Exception as error:
                if drive.stopped:
                    raise StoppedError(drive.stopped) from error
                raise
        finally:
            executor.shutdown(timeout_sec=0.5)
            thread.join(timeout=1.0)
            node.destroy_node()
    keys.hang_up() if keys.master >= 0 else None


def _spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except Exception:
        return
