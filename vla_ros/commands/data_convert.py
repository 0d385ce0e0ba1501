"""`vla-ros data convert`: any format to any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vla_ros.commands.data_sources import convert_with_bar, open_sources, plural, sources_and_target
from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import print_next
from vla_ros.data.conversion import FORMATS, Options
from vla_ros.data.conversion_work import refuse_existing
from vla_ros.data.open import discarded_in
from vla_ros.errors import ConfigurationError, did_you_mean


def convert(paths: Sequence[Path], to: str, options: Options) -> None:
    """Convert all sources into one target.  Raises `VlaRosError`."""
    sources, target = sources_and_target(paths, 1)
    if to not in FORMATS:
        raise ConfigurationError(
            f"the format '{to}' (--to) is not known; {', '.join(FORMATS)} are.{did_you_mean(to, FORMATS)}"
        )
    refuse_existing(target)
    console = Console()
    convert_with_bar(open_sources(sources, lenient=True), target, to, options, console)
    discarded = sum(discarded_in(source) for source in sources if source.is_dir())
    if discarded:
        console.print(f"{plural(discarded, 'discarded bag')} left out.", highlight=False)
    print_next(console, "vla-ros data view", target)
