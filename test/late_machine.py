"""Live tests on a machine that loses time: run again where it is known that it did, and said at the end.

A controller must stop a robot whose nodes are late, and a period is not kept where nobody gets to run; such a
run says nothing of the code.  A live test that fails is run again only where this machine was seen to be late
meanwhile, or where the test itself found a robot stopped that nobody had stopped (`StoppedError`).  A broken
limit is never excused.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from vla_ros.errors import VlaRosError

ATTEMPTS = 4
LATE = 0.15
"""A thread that oversleeps by more than this was kept from running [s]: joint states are void after 0.5 s,
heartbeats sooner, and a period of the controller is 1 to 10 ms."""
PAUSE = 5.0
"""Whatever keeps the machine busy may have gone after this, and more before each further try [s]."""
RESERVE = 0.9
"""Share of a test's time limit that its tries may take."""

AGAIN = "run again"
"""Property of a report, which reaches the end of a run from other processes too."""

_stopped = pytest.StashKey[bool]()


class StoppedError(Exception):
    """The controller stopped the robot, and nobody had asked for it."""


@contextmanager
def stops_told() -> Iterator[None]:
    """A context in which an episode that is refused because the robot was stopped is a `StoppedError`."""
    try:
        yield
    except VlaRosError as error:
        if "waits for a reset" in str(error):
            raise StoppedError(str(error)) from error
        raise


class Lateness:
    """A context that finds out by how much this machine lets a thread oversleep meanwhile."""

    def __init__(self) -> None:
        self.worst = 0.0
        """[s]"""
        self._over = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.is_set():
            begun = time.monotonic()
            time.sleep(0.005)
            self.worst = max(self.worst, time.monotonic() - begun - 0.005)

    def __enter__(self) -> Lateness:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    if call.excinfo is not None and call.excinfo.errisinstance(StoppedError):
        item.stash[_stopped] = True
    return (yield)


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a live test, and once more where the machine was late."""
    if item.get_closest_marker("live") is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    begun = time.monotonic()
    again: list[tuple[str, object]] = []
    for attempt in range(1, ATTEMPTS + 1):
        item.stash[_stopped] = False
        with Lateness() as late:
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
        why = _excuse(item, reports, late)
        spent = time.monotonic() - begun
        enough = spent * (attempt + 1) / attempt + attempt * PAUSE < RESERVE * _limit(item)
        if not why or attempt == ATTEMPTS or not enough:
            break
        again.append((AGAIN, why))
        # fixtures of the module too are made anew: what failed may be theirs
        item.session._setupstate.teardown_exact(None)
        item._initrequest()  # type: ignore[attr-defined]
        time.sleep(attempt * PAUSE)
    reports[0].user_properties += again
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _excuse(item: pytest.Item, reports: list[pytest.TestReport], late: Lateness) -> str:
    """Why a failure says nothing of the code; empty: none, or it does."""
    failed = next((report for report in reports if report.failed), None)
    if failed is None:
        return ""
    told = [line for line in failed.longreprtext.splitlines() if line[:1] in ("E", ">")]
    if any("violations" in line for line in told):
        return ""  # a broken limit is one on any machine
    said = told[-1].lstrip("E> ") if told else failed.longreprtext.strip()[-200:]
    if item.stash[_stopped]:
        return f"the robot was stopped ({said})"
    return f"the machine was {late.worst:.2f} s late ({said})" if late.worst > LATE else ""


def _limit(item: pytest.Item) -> float:
    """Of the time for this test with all its tries [s]."""
    marker = item.get_closest_marker("timeout")
    given = marker.args[0] if marker is not None and marker.args else item.config.getini("timeout")
    return float(given or "inf")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = {
        id(report): report
        for kind in terminalreporter.stats.values()
        for report in kind
        if isinstance(report, pytest.TestReport)
    }
    again = [
        f"{report.nodeid}: {why}"
        for report in reports.values()
        for key, why in report.user_properties
        if key == AGAIN
    ]
    if again:
        terminalreporter.section("live tests that were run again")
        for line in again:
            terminalreporter.write_line(line)
