"""Data files are found, or the sentence says where they were looked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vla_ros import resources
from vla_ros.errors import MachineError


def test_checkout_is_found() -> None:
    assert resources.resource_path("config", "robots", "panda.yaml").is_file()


def test_absent_file_names_the_places() -> None:
    with pytest.raises(MachineError, match=r"config/robots/no\.yaml .* was not found in .*config"):
        resources.resource_path("config", "robots", "no.yaml")


def test_installed_share_is_used_without_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lib" / "vla_ros"
    package.mkdir(parents=True)
    data = tmp_path / "share" / "vla_ros" / "config"
    data.mkdir(parents=True)
    monkeypatch.setattr(resources, "__file__", str(package / "resources.py"))
    monkeypatch.setattr(resources, "_ament_share", lambda: None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert resources.resource_path("config") == data


def test_ament_share_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ament_index_python.packages", None)
    assert resources._ament_share() is None
