from __future__ import annotations

import fcntl
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from vla_ros.bringup.domain import claimed_domain
from vla_ros.bringup.graph import Process, environment
from vla_ros.bringup.shm import FOLDER, clean_shared_memory, profile_variable

pytestmark = pytest.mark.live

HOLDER = """
import fcntl, sys, time
files = [open(name) for name in sys.argv[2:]]
for file in files:
    fcntl.flock(file, fcntl.LOCK_EX if sys.argv[1] == "exclusive" else fcntl.LOCK_SH)
print("ready", flush=True)
time.sleep(60)
"""
PARTICIPANT = """
import rclpy, time
rclpy.init()
node = rclpy.create_node("shared_memory_test")
print("ready", flush=True)
time.sleep(60)
"""


@contextmanager
def child(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError("the child did not start")
        yield process
    finally:
        process.kill()
        process.communicate()


def segment(folder: Path, name: str, suffix: str = "_el") -> list[Path]:
    files = [folder / name, folder / f"{name}{suffix}", folder / f"sem.{name}_mutex"]
    for file in files:
        file.write_bytes(b"x")
    return files


@pytest.mark.parametrize("prefix", ["fastrtps", "fastdds"])
@pytest.mark.parametrize(("kind", "suffix"), [("exclusive", "_el"), ("shared", "_sl")])
def test_a_segment_goes_only_after_its_owner(tmp_path: Path, prefix: str, kind: str, suffix: str) -> None:
    files = segment(tmp_path, f"{prefix}_port7411", suffix)
    with child(HOLDER, kind, str(files[1])):
        assert clean_shared_memory(tmp_path) == 0
        assert all(file.exists() for file in files)
    assert clean_shared_memory(tmp_path) == 3
    assert list(tmp_path.iterdir()) == []


def test_one_held_lock_of_two_keeps_the_segment(tmp_path: Path) -> None:
    files = segment(tmp_path, "fastrtps_port7411", "_el")
    other = tmp_path / "fastrtps_port7411_sl"
    other.touch()
    with other.open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert clean_shared_memory(tmp_path) == 0
        assert all(file.exists() for file in files)


def test_foreign_files_and_segments_without_a_lock_file_stay(tmp_path: Path) -> None:
    names = ["lttng-ust-wait-6", "fastrtps_0123", "sem.fastrtps_port1_mutex", "faster_el", "pulse-shm-1"]
    for name in names:
        (tmp_path / name).touch()
    assert clean_shared_memory(tmp_path) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names)


def test_a_killed_participant_leaves_nothing_and_a_living_one_keeps_its_own() -> None:
    pytest.importorskip("rclpy")
    own = {"ROS_DOMAIN_ID": "83", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}

    def owned(process: subprocess.Popen[str]) -> set[str]:
        """Names of the segments that the process has mapped."""
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        return {file.name for file in FOLDER.iterdir() if file.name.startswith("fast") and str(file) in maps}

    with child(PARTICIPANT, **own) as living:
        kept = owned(living)
        with child(PARTICIPANT, **own) as killed:
            left = owned(killed) - kept
            assert left
        assert left & {file.name for file in FOLDER.iterdir()}
        clean_shared_memory()
        # the living one may have opened a port of the killed one, to send to it: such a port may stay
        assert not (left - owned(living)) & {file.name for file in FOLDER.iterdir()}
        assert kept <= {file.name for file in FOLDER.iterdir()}


@pytest.mark.parametrize(("release", "start"), [("7.1.6", "FASTRTPS"), ("9.1.2", "FASTDDS")])
def test_the_profile_variable_follows_the_release(
    monkeypatch: pytest.MonkeyPatch, release: str, start: str
) -> None:
    monkeypatch.setattr("vla_ros.bringup.shm.version", lambda name: release)
    assert profile_variable() == f"{start}_DEFAULT_PROFILES_FILE"


def test_ports_that_nobody_maps_are_removed_and_mapped_ones_stay(tmp_path: Path) -> None:
    dead, used = tmp_path / "fastrtps_port7001", tmp_path / "fastrtps_port7003"
    for path in (
        dead,
        used,
        tmp_path / "sem.fastrtps_port7001_mutex",
        tmp_path / "sem.fastrtps_port7003_mutex",
    ):
        path.write_bytes(bytes(4096))
        os.utime(path, (0, 0))
    young = tmp_path / "fastrtps_port7005"
    young.touch()
    with used.open("r+b") as file, mmap.mmap(file.fileno(), 4096):
        assert clean_shared_memory(tmp_path) == 2
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"fastrtps_port7003", "sem.fastrtps_port7003_mutex", young.name}


def test_only_processes_that_exchange_images_open_shared_memory() -> None:
    """Who sends to a reader in shared memory may wait for a third of a second: a control loop must not."""
    with claimed_domain(), ExitStack() as children:
        pids = {}
        for name in ("ingester", "recorder", "safety_controller", "supervisor"):
            variables = {**environment(), **Process(name).environment}
            talking = PARTICIPANT.replace("shared_memory_test", name).replace(
                'print("ready"', f'{TALK}print("ready"'
            )
            pids[name] = children.enter_context(child(talking, **variables)).pid
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline and mapped(pids["ingester"]) < 3:
            time.sleep(0.1)
        time.sleep(0.5)
        assert mapped(pids["ingester"]) >= 3, "with shared memory there are its own ports and the other's"
        assert mapped(pids["safety_controller"]) == mapped(pids["supervisor"]) == 0


TALK = """from std_msgs.msg import String
made = node.create_publisher(String, "/shared", 10), node.create_subscription(String, "/shared", print, 10)
made[0].publish(String(data="x"))
"""


def mapped(pid: int) -> int:
    """Segments of the middleware's shared memory that a process has open."""
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="ascii")
    return len({line.split()[-1] for line in maps.splitlines() if "/dev/shm/fast" in line})
