"""A conversion in a process of its own, to be killed: `conversion_child.py SOURCE TARGET PAUSE WORKERS`."""

from __future__ import annotations

import sys
from pathlib import Path

from conversion_source import MadeUp

from vla_ros.data.conversion import Options, convert

if __name__ == "__main__":
    source = MadeUp(Path(sys.argv[1]), lengths=(6,) * 12, pause=float(sys.argv[3]))
    convert(source, Path(sys.argv[2]), "lerobot", Options(workers=int(sys.argv[4]), group_size=1))
