"""What an audit of several bags comes to: counted once, for the command, the page and the JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vla_ros.data.audit.audit import BagAudit, EpisodeAudit
from vla_ros.data.audit.finding import VERDICTS, Level


@dataclass(frozen=True)
class AuditSummary:
    """Every bag that was audited, and those that could not be or were not."""

    audits: Sequence[BagAudit]
    unreadable: Sequence[str] = ()
    """A sentence for each bag that could not be read."""
    discarded: int = 0
    """Bags in folders named `discarded`, which were not audited."""

    @property
    def bags(self) -> int:
        """Number of bags, without those discarded."""
        return len(self.audits) + len(self.unreadable)

    @property
    def verdicts(self) -> dict[Level, int]:
        """Bags by verdict; one that cannot be read is not usable."""
        counts = Counter(audit.level for audit in self.audits)
        counts[Level.FAIL] += len(self.unreadable)
        return {level: counts[level] for level in VERDICTS}

    @property
    def episodes(self) -> list[EpisodeAudit]:
        """The episodes that conversion takes by default: those that the verdicts are about."""
        return [episode for audit in self.audits for episode in audit.taken]

    @property
    def failed(self) -> bool:
        """Whether a bag is not usable."""
        return self.verdicts[Level.FAIL] > 0

    def sentence(self) -> str:
        """The counts in one line."""
        good, fair, bad = (self.verdicts[level] for level in (Level.PASS, Level.WARN, Level.FAIL))
        text = (
            f"{self.bags} bag{'s' * (self.bags != 1)}: {good} usable, {fair} with remarks, {bad} not usable"
        )
        return f"{text}{f'; {self.discarded} discarded left out' * bool(self.discarded)}."

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        counts = {level.name.lower(): count for level, count in self.verdicts.items()}
        return {
            "verdicts": counts,
            "discarded": self.discarded,
            "bags": [audit.to_json() for audit in self.audits],
            "unreadable": list(self.unreadable),
        }
