"""A loop that only sleeps: what the machine allows a control loop in Python, measured beside one.

Run as a process of its own: `python -m benchmarks.bare_loop PERIOD PRIORITY BEGIN END` with seconds and
nanoseconds of the wall clock; prints the moments at which it woke [ns of the monotonic clock] as JSON.
"""

from __future__ import annotations

import gc
import json
import sys
import time

from vla_ros.control.clocks import sleep_until
from vla_ros.control.loop import request_real_time


def wake_ups(period: float, priority: int, begin: int, end: int) -> list[int]:
    """Moments of waking [ns] from `begin` to `end` [ns of the wall clock], a `period` [s] apart."""
    if priority > 0:
        for sentence in request_real_time(priority):
            print(sentence, file=sys.stderr)
    gc.freeze()
    start = time.monotonic()
    wait = 1e-9 * (begin - time.time_ns())
    count = max(0, round(1e-9 * (end - begin) / period))
    first = start + max(wait, period)
    woken = []
    for tick in range(count):
        sleep_until(first + tick * period)
        woken.append(time.monotonic_ns())
    return woken


def main() -> None:
    """Entry point."""
    period, priority, begin, end = sys.argv[1:]
    print(json.dumps(wake_ups(float(period), int(priority), int(begin), int(end))))


if __name__ == "__main__":
    main()
