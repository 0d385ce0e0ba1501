"""What every test module needs: the OpenGL platform chosen before MuJoCo reads it, and a clean end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import vla_ros.sim  # noqa: F401  (chooses the platform)
from vla_ros.bringup.shm import clean_shared_memory

pytest_plugins = ["late_machine"]

# How long an example takes says nothing on a shared machine.  The same examples every time: a change is
# judged by what it does, not by the luck of its run; `make fuzz` looks for new ones.
settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="FUZZ" not in os.environ,
)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def nothing_left_in_shared_memory() -> Iterator[None]:
    """Tests kill processes on purpose; what those leave is removed when all are done."""
    yield
    clean_shared_memory()


@pytest.fixture(autouse=True)
def no_real_time_priority_is_left() -> Iterator[None]:
    """Whatever a later test starts would inherit it, and real-time threads can starve a whole machine."""
    yield
    assert os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER
