"""Shared memory of Fast DDS: where its profile is named, and what killed processes leave behind."""

from __future__ import annotations

import fcntl
import os
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FOLDER = Path("/dev/shm")
PREFIXES = ("fastrtps_", "fastdds_")
LOCK_SUFFIXES = ("_el", "_sl")
"""A living process holds `flock` on NAME_el (sole owner) or NAME_sl (several readers) of a segment NAME."""

YOUNG = 0.5
"""Seconds within which a segment may be about to be mapped by the process that made it."""


def profile_variable() -> str:
    """Name of the environment variable in which the installed Fast DDS looks for a profile file.

    Fast DDS 2 (ROS 2 up to Jazzy, rclpy 7) knows the old name only; Fast DDS 3 warns of it.
    """
    try:
        major = int(version("rclpy").split(".")[0])
    except PackageNotFoundError:
        major = 7
    return "FASTRTPS_DEFAULT_PROFILES_FILE" if major < 8 else "FASTDDS_DEFAULT_PROFILES_FILE"


def clean_shared_memory(folder: Path = FOLDER) -> int:
    """Remove the segments that no living process owns; returns the number of files removed.

    Segments in use, those of other users and those whose owner cannot be told are left alone.
    """
    removed = 0
    for lock in sorted(folder.glob("fast*_[es]l")):
        segment = lock.name[: -len(LOCK_SUFFIXES[0])]
        if not segment.startswith(PREFIXES):
            continue
        try:
            descriptor = os.open(lock, os.O_RDONLY)
        except (FileNotFoundError, PermissionError):
            continue
        try:
            # Held until the files are gone, so that no process takes them over in between.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _held_elsewhere(folder, segment, lock.name):
                for name in (f"sem.{segment}_mutex", segment, lock.name):
                    removed += _remove(folder / name)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
    return removed + _clean_ports(folder)


def _clean_ports(folder: Path) -> int:
    """Remove port segments without a lock file that no process maps: what even a clean end leaves behind."""
    ports = [
        path
        for path in sorted(folder.glob("fast*_port*"))
        if path.name.startswith(PREFIXES)
        and not path.name.endswith(LOCK_SUFFIXES)
        and not any((folder / (path.name + suffix)).exists() for suffix in LOCK_SUFFIXES)
        and _age(path) > YOUNG
    ]
    mapped = _mapped_files() if ports else set()
    return sum(
        _remove(path) + _remove(folder / f"sem.{path.name}_mutex")
        for path in ports
        if str(path) not in mapped
    )


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _mapped_files() -> set[str]:
    """Every file that a process we may look into has in its memory."""
    found: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:  # it ended meanwhile, or is another user's
            continue
        found.update(line.split(maxsplit=5)[5] for line in lines if line.count(" ") > 5 and "/" in line)
    return found


def _held_elsewhere(folder: Path, segment: str, probed: str) -> bool:
    """Whether the segment's other lock file is held."""
    for name in (segment + suffix for suffix in LOCK_SUFFIXES):
        if name == probed:
            continue
        try:
            descriptor = os.open(folder / name, os.O_RDONLY)
        except FileNotFoundError:
            continue
        except PermissionError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def _remove(path: Path) -> int:
    try:
        path.unlink()
    except (FileNotFoundError, PermissionError):
        return 0
    return 1
