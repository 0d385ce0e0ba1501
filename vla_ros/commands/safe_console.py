"""rich's console for text from anywhere: names and instructions of data sets, lines of the nodes' logs."""

from __future__ import annotations

from collections.abc import Iterable

import rich.console
from rich.segment import Segment

from vla_ros.bounds import plain


class Console(rich.console.Console):
    """Shows control characters instead of obeying them; its own styles and cursor movements stay."""

    def render(
        self,
        renderable: rich.console.RenderableType,
        options: rich.console.ConsoleOptions | None = None,
    ) -> Iterable[Segment]:
        """See rich; every part of what is printed comes by here."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(plain(segment.text, len(segment.text)), segment.style)
