"""Choosing and holding a ROS domain."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from vla_ros.bringup.domain import claimed_domain, ports_of, quiet
from vla_ros.errors import ConfigurationError

pytestmark = pytest.mark.live


def test_ports_are_those_of_the_standard() -> None:
    assert ports_of(0)[:2] == [7410, 7412]
    assert ports_of(3)[0] == 8160


def test_a_bound_port_makes_a_domain_loud() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(("127.0.0.1", ports_of(97)[1]))
        assert not quiet(97)
    assert quiet(97)


def test_a_free_domain_is_chosen_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    with claimed_domain() as first:
        assert os.environ["ROS_DOMAIN_ID"] == str(first)
        del os.environ["ROS_DOMAIN_ID"]
        with claimed_domain() as second:
            assert second != first
    assert "ROS_DOMAIN_ID" not in os.environ


def test_a_domain_held_by_another_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    number = 60 + os.getpid() % 40  # two runs of the suite must not meet
    monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
    code = (
        "from vla_ros.bringup.domain import claimed_domain\n"
        "with claimed_domain(): print('held', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigurationError, match=f"domain {number} is in use"), claimed_domain():
            pass
    finally:
        holder.communicate("\n")
    with claimed_domain() as domain:
        assert domain == number


@pytest.mark.parametrize("given", ["x", "-1", "233", "1.5"])
def test_a_domain_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", given)
    with pytest.raises(ConfigurationError, match="0 to 232"), claimed_domain():
        pass
