"""The ROS domain of a run: a free one when none is asked for, never one that another vla_ros graph holds."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from vla_ros.errors import ConfigurationError, MachineError

LOWEST, HIGHEST = 1, 101
"""Domains whose ports lie below the ephemeral range of Linux (docs.ros.org, The ROS_DOMAIN_ID)."""
PARTICIPANTS = 12
"""Participants of one host whose ports are looked at."""
RANGE, LOCALHOST = "ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"
"""Variable that says whom the middleware looks for, and its value for this machine alone."""


def ports_of(domain: int) -> list[int]:
    """Discovery ports of a domain's first participants (DDS-RTPS 2.5, 9.6.1: PB 7400, DG 250, PG 2)."""
    return [7400 + 250 * domain + 10 + 2 * participant for participant in range(PARTICIPANTS)]


def quiet(domain: int) -> bool:
    """Whether no DDS participant of this host is in the domain."""
    for port in ports_of(domain):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


@contextmanager
def claimed_domain() -> Iterator[int]:
    """Hold a domain while the context lasts, and set ROS_DOMAIN_ID for this process and its children.

    Raises:
        ConfigurationError: ROS_DOMAIN_ID is no number from 0 to 232, or another graph holds the domain.
        MachineError: no domain is free.
    """
    given = os.environ.get("ROS_DOMAIN_ID")
    os.environ.setdefault(RANGE, LOCALHOST)
    if given:
        if not given.isdecimal() or int(given) > 232:
            raise ConfigurationError(f"ROS_DOMAIN_ID is '{given}', allowed is a number from 0 to 232.")
        lock = _lock(int(given))
        if lock is None:
            raise ConfigurationError(
                f"ROS domain {given} is in use by another vla_ros graph on this machine; "
                "stop that one or set another ROS_DOMAIN_ID."
            )
        domain = int(given)
    else:
        domain, lock = _free()
        os.environ["ROS_DOMAIN_ID"] = str(domain)
    try:
        yield domain
    finally:
        lock.close()
        if not given:
            os.environ.pop("ROS_DOMAIN_ID", None)


def _free() -> tuple[int, TextIO]:
    for domain in range(LOWEST, HIGHEST + 1):
        lock = _lock(domain)
        if lock is None:
            continue
        if quiet(domain):
            return domain, lock
        lock.close()
    raise MachineError(f"No ROS domain from {LOWEST} to {HIGHEST} is free on this machine.")


def _lock(domain: int) -> TextIO | None:
    path = Path(tempfile.gettempdir()) / f"vla_ros_domain_{domain}.lock"
    try:
        file = open(path, "a", encoding="ascii")  # noqa: SIM115
    except OSError as error:
        raise MachineError(f"The lock file {path} cannot be opened: {error.strerror}.") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
