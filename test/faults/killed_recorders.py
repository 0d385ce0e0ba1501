"""Recorders that are killed at random moments; a process of its own, so that it may fork.

`python killed_recorders.py FOLDER COUNT AT_ONCE SEED` leaves bags and `killed.json`: per bag the time of the
kill and of every message's `put` on the same clock.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

from vla_ros.data.recorded_topics import RecordedTopic
from vla_ros.data.recording import Recording

TOPICS = [
    RecordedTopic("/joint_states", "sensor_msgs/msg/JointState"),
    RecordedTopic("/camera/image_raw", "sensor_msgs/msg/Image"),
]
IMAGE_EVERY = 7
MOST = 4000


def content(k: int) -> bytes:
    """Made-up bytes of message k, those of an image every seventh time."""
    return random.Random(k).randbytes(40_000 if k % IMAGE_EVERY == 0 else 200)


def topic(k: int) -> str:
    return TOPICS[k % IMAGE_EVERY == 0].name


def record(bag: Path, log: mmap.mmap) -> None:
    """Put a message every 4 ms until killed; note each one's time before it is put."""
    ready = [content(k) for k in range(140)]
    recording = Recording(bag, TOPICS, {"contract": "x"})
    for k in range(MOST):
        log[8 * k : 8 * k + 8] = struct.pack("<d", time.monotonic())
        recording.put(topic(k), k, ready[k % 140])
        time.sleep(0.004)


def main(folder: Path, count: int, at_once: int, seed: int) -> None:
    rng, found = random.Random(seed), {}
    for first in range(0, count, at_once):
        group = []
        for k in range(first, min(first + at_once, count)):
            log = mmap.mmap(-1, 8 * MOST)
            bag = folder / f"bag{k:03d}"
            pid = os.fork()
            if pid == 0:
                record(bag, log)
                os._exit(0)
            group.append((time.monotonic() + rng.uniform(0.05, 4.0), pid, bag, log))
        for due, pid, bag, log in sorted(group, key=lambda entry: entry[0]):
            time.sleep(max(0.0, due - time.monotonic()))
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            times = struct.unpack(f"<{MOST}d", log[:])
            found[bag.name] = [killed, [at for at in times if at]]
    (folder / "killed.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
