"""Where the package's data files (config/, urdf/, worlds/, launch/) lie."""

from __future__ import annotations

import sys
from pathlib import Path

from vla_ros.errors import MachineError


def resource_path(*parts: str) -> Path:
    """Path of a data file or folder, e.g. `resource_path("config", "robots")`.

    Looked for in the source checkout, then in the ament index, then under `sys.prefix`.

    Raises:
        MachineError: it is in none of them.
    """
    tried = [root.joinpath(*parts) for root in _roots()]
    for path in tried:
        if path.exists():
            return path
    folders = " or ".join(str(path.parent) for path in tried)
    raise MachineError(
        f"data file {'/'.join(parts)} of vla_ros was not found in {folders};"
        " install the package or run from its source checkout"
    )


def _roots() -> list[Path]:
    roots = []
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "config").is_dir():
        roots.append(checkout)
    share = _ament_share()
    if share is not None:
        roots.append(share)
    roots.append(Path(sys.prefix) / "share" / "vla_ros")
    return roots


def _ament_share() -> Path | None:
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ImportError:
        return None
    try:
        return Path(get_package_share_directory("vla_ros"))
    except (PackageNotFoundError, OSError):  # OSError: AMENT_PREFIX_PATH is not set
        return None
