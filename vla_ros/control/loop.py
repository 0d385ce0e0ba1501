"""A thread on an absolute clock, with real-time priority where the system permits it.

An executor timer loses or delays a good part of its ticks at these rates; a thread that sleeps until absolute
times does not drift, and the kernel wakes it first when it may have SCHED_FIFO.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vla_ros.control.clocks import LoopClock, MonotonicClock

_MCL_CURRENT, _MCL_FUTURE = 1, 2
_WINDOW = 1000
_RUNAWAY = 2.0
"""Periods of lateness beyond which the schedule starts anew instead of catching up."""


_libc = ctypes.CDLL(None, use_errno=True)


def set_priority(priority: int) -> OSError | None:
    """Give the calling thread a SCHED_FIFO priority, 0 for none; what the system said against it.

    Threads and processes it starts later are not real-time (sched(7), SCHED_RESET_ON_FORK): the middleware's
    threads busy-wait for one another now and then, which at equal real-time priority may never end.
    """
    policy = os.SCHED_FIFO if priority > 0 else os.SCHED_OTHER
    try:
        os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError as error:
        return error
    return None


def request_real_time(priority: int) -> list[str]:
    """Ask for SCHED_FIFO on the calling thread and locked memory; the sentences of what was refused."""
    refused = []
    error = set_priority(priority)
    if error is not None:
        refused.append(
            f"No permission for real-time priority {priority} ({error.strerror}); the loop goes on at normal "
            "priority and may be late under load. Allow it with rtprio in /etc/security/limits.conf."
        )
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        reason = os.strerror(ctypes.get_errno())
        refused.append(f"Memory could not be locked ({reason}); a page fault may delay a tick.")
    return refused


@dataclass(frozen=True)
class LoopStatistics:
    """Of the last `_WINDOW` ticks, seconds."""

    rate: float
    period_error_p99: float
    compute_p99: float
    overruns: int
    """Ticks since start that ended after the next was due."""


class RealTimeLoop:
    """Calls `tick(due)` every period until stopped; `due` is the scheduled time [s] on the loop's clock."""

    def __init__(
        self,
        period: float,
        tick: Callable[[float], None],
        priority: int = 0,
        on_warning: Callable[[str], None] = print,
        prepare: Callable[[float], None] | None = None,
        lead: float = 0.0,
        clock: LoopClock | None = None,
    ) -> None:
        """Make a loop; `start` begins it.

        Args:
            period: between ticks [s].
            tick: called with the scheduled time.
            priority: SCHED_FIFO priority 1 to 99, 0 for none.
            on_warning: gets sentences about refusals.
            prepare: called with the scheduled time of the next tick, `lead` [s] before it: work that is not
                in every tick and would make those it is in late.
            lead: less than the period.
            clock: this machine's, if none is given.
        """
        self._clock = clock or MonotonicClock()
        self.period = period
        self._prepare, self._lead = prepare, lead
        self._tick, self._priority, self._on_warning = tick, priority, on_warning
        self._wakes = np.zeros(_WINDOW)
        self._computes = np.zeros(_WINDOW)
        self._count = 0
        self._overruns = 0
        self.late = 0
        """Ticks in a row, up to the last, that ended more than `_RUNAWAY` periods after the next was due."""
        self._error: BaseException | None = None
        self._asked = threading.Event()
        self._ticked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        # the default of 5 ms would let a busy callback keep a due tick waiting for that long
        sys.setswitchinterval(0.0002)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the present tick and wait for the thread."""
        self._asked.set()
        self._clock.release()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def wait_for_tick(self) -> bool:
        """Wait, two periods at most, until a tick has just ended; whether one did.

        For other threads of this process: what they do right after a tick does not hold the next one up.
        """
        self._ticked.clear()
        return self._ticked.wait(2.0 * self.period)

    @property
    def error(self) -> BaseException | None:
        """What ended the loop, if something did."""
        return self._error

    def statistics(self) -> LoopStatistics:
        """Rates and tails; called from any thread."""
        filled = min(self._count, _WINDOW)
        if filled < 3:
            return LoopStatistics(0.0, 0.0, 0.0, self._overruns)
        newest = self._count % _WINDOW
        wakes = np.roll(self._wakes, -newest)[-filled:].copy()
        periods = np.diff(wakes[1:])
        periods = periods[periods > 0.0]
        if len(periods) == 0:
            return LoopStatistics(0.0, 0.0, 0.0, self._overruns)
        return LoopStatistics(
            float(1.0 / periods.mean()),
            float(np.quantile(np.abs(periods - self.period), 0.99)),
            float(np.quantile(self._computes[:filled], 0.99)),
            self._overruns,
        )

    def _run(self) -> None:
        if self._priority > 0:
            for sentence in request_real_time(self._priority):
                self._on_warning(sentence)
        gc.collect()
        gc.freeze()
        now, sleep = self._clock.now, self._clock.sleep_until
        due = now() + self.period
        try:
            while not self._asked.is_set():
                if self._prepare is not None:
                    sleep(due - self._lead)
                    self._prepare(due)
                sleep(due)
                if self._asked.is_set():
                    break  # a clock that stands still lets go before it is time
                woken = now()
                self._tick(due)
                done = now()
                self._ticked.set()
                index = self._count % _WINDOW
                self._wakes[index], self._computes[index] = woken, done - woken
                self._count += 1
                due += self.period
                if done > due:
                    self._overruns += 1
                late = done > due + _RUNAWAY * self.period
                self.late = self.late + 1 if late else 0
                if late:
                    # never a burst of commands to make up for lost time
                    due = done + self.period
        except BaseException as error:  # the owner must learn of it, whatever it is
            self._error = error
        finally:
            gc.unfreeze()
