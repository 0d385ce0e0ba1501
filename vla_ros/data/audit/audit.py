"""The audit of a bag: every episode through every check, and what is to be said of the whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vla_ros.data.audit.check_content import outcome_finding
from vla_ros.data.audit.checks import CHECKS, Check
from vla_ros.data.audit.finding import VERDICTS, Finding, Level, joined, verdict, worst
from vla_ros.data.audit.look import Look
from vla_ros.data.audit.rules import AuditRules
from vla_ros.data.audit.scan import EPISODE_TOPIC, Scan, contract_of
from vla_ros.data.bag import bag_files, bag_metadata, closing_metadata
from vla_ros.data.mcap import McapFile
from vla_ros.errors import DataError

LEFT_OUT = ("aborted", "discarded")
"""Outcomes that conversion leaves out by default: what fails in them does not fail the bag."""


@dataclass(frozen=True)
class EpisodeAudit:
    """What was found in one episode."""

    episode_id: str
    instruction: str
    outcome: str
    steps: int
    seconds: float
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst of the findings."""
        return worst(self.findings)

    @property
    def left_out(self) -> bool:
        """Whether conversion leaves it out by default, whatever was found."""
        return self.outcome in LEFT_OUT

    @property
    def failed(self) -> bool:
        """Whether conversion refuses it unless told otherwise."""
        return self.level is Level.FAIL

    def sentence(self) -> str:
        """The verdict in plain words."""
        return f"Episode {self.episode_id}: {verdict(self.findings)}"

    def values(self, check: str) -> Mapping[str, float]:
        """Numbers of one check by subject."""
        return {f.subject: f.value for f in self.findings if f.check == check and f.value is not None}

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return {
            "episode_id": self.episode_id,
            "instruction": self.instruction,
            "outcome": self.outcome,
            "steps": self.steps,
            "seconds": self.seconds,
            "level": self.level.name.lower(),
            "verdict": verdict(self.findings),
            "findings": [_finding_json(f) for f in self.findings],
        }


@dataclass(frozen=True)
class BagAudit:
    """What was found in one bag."""

    path: Path
    findings: tuple[Finding, ...]
    """Of the bag as a whole."""
    episodes: Mapping[str, EpisodeAudit] = field(default_factory=dict)
    """By episode_id, in the order of recording."""
    seconds: float = 0.0
    """From the first to the last recording time."""

    @property
    def taken(self) -> list[EpisodeAudit]:
        """The episodes that conversion takes by default."""
        return [episode for episode in self.episodes.values() if not episode.left_out]

    @property
    def level(self) -> Level:
        """The worst of the bag and of the episodes that conversion takes."""
        return max((worst(self.findings), *(episode.level for episode in self.taken)))

    @property
    def verdict(self) -> str:
        """`usable`, `usable with remarks` or `not usable`."""
        return VERDICTS[self.level]

    @property
    def failed(self) -> bool:
        """Whether anything that conversion would take fails."""
        return self.level is Level.FAIL

    def sentence(self) -> str:
        """The verdict in plain words, with the sentences that decide it."""
        level, shown = self.level, str(self.path)
        if level is Level.PASS:
            count = len(self.episodes)
            return f"{shown}: usable, {count} episode{'s' * (count != 1)}."
        said = [joined([f for f in self.findings if f.level is level])]
        for episode in self.taken:
            wrong = joined([f for f in episode.findings if f.level is level])
            said += [f"Episode {episode.episode_id}: {wrong}"] if wrong else []
        return f"{shown}: {self.verdict}: {' '.join(text for text in said if text)}"

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return {
            "path": str(self.path),
            "level": self.level.name.lower(),
            "verdict": self.sentence(),
            "seconds": self.seconds,
            "findings": [_finding_json(f) for f in self.findings],
            "episodes": [episode.to_json() for episode in self.episodes.values()],
        }


Visitor = Callable[[Look, EpisodeAudit], None]


def audit_bag(
    path: Path,
    rules: AuditRules | None = None,
    checks: Sequence[Check] = CHECKS,
    pictures: bool = False,
    visit: Visitor | None = None,
) -> BagAudit:
    """Audit a bag folder or .mcap file in one pass; memory holds the numbers of one episode at a time.

    Args:
        path: of the bag.
        rules: limits; the defaults where None.
        checks: what each episode goes through.
        pictures: keep small pictures of the cameras for `visit`.
        visit: called with each episode when it has been judged.

    Raises `DataError` when the bag cannot be read at all.
    """
    path, rules = Path(path), rules or AuditRules()
    found: list[Finding] = []
    metadata = bag_metadata(path)
    try:
        contract = contract_of(metadata)
    except DataError as error:
        contract = None
        found.append(Finding("contract", Level.FAIL, str(error)))
    scan = Scan(path, contract, rules, pictures, "scene" in metadata)
    episodes: dict[str, EpisodeAudit] = {}
    imported = 0
    try:
        for record in scan.episodes():
            imported += record.imported
            look = Look(record, rules)
            findings = tuple(finding for check in checks for finding in check(look))
            name = record.episode_id or f"episode {len(episodes)}"
            if name in episodes:
                found.append(
                    Finding(
                        "episodes", Level.FAIL,
                        f"the episode id '{name}' stands for two episodes; ids must be different.",
                    )
                )  # fmt: skip
                name = f"{name} ({len(episodes)})"
            said = record.instructions[0] if record.instructions else ""
            episode = EpisodeAudit(name, said, record.outcome, len(look.steps), record.seconds, findings)
            episodes[name] = episode
            if visit is not None:
                visit(look, episode)
    except DataError as error:
        if not scan.topics:
            raise
        found.append(Finding("readable", Level.FAIL, f"the bag cannot be read to its end: {error}"))
    for name in episodes.keys() & scan.relabelled.keys():
        outcome = scan.relabelled[name]
        findings = tuple(
            outcome_finding(outcome) if f.check == "outcome" else f for f in episodes[name].findings
        )
        episodes[name] = replace(episodes[name], outcome=outcome, findings=findings)
    found += _of_the_bag(path, scan, "contract" in metadata or imported > 0, len(episodes))
    return BagAudit(path, tuple(found), episodes, (scan.last - scan.first) * 1e-9)


def _of_the_bag(path: Path, scan: Scan, contract: bool, episodes: int) -> list[Finding]:
    found = []
    if not all(_closed(file) for file in bag_files(path)):
        found.append(
            Finding(
                "closed", Level.FAIL,
                "the bag was not closed, its recorder was killed or the file is cut off: `vla-ros bag "
                "repair` saves what is whole.",
            )
        )  # fmt: skip
    if not contract:
        found.append(
            Finding(
                "contract", Level.FAIL,
                "the bag carries no contract, so that rates, dimensions and cameras cannot be judged: record "
                "with `vla-ros record`.",
            )
        )  # fmt: skip
    found += _dropped(path)
    if not episodes:
        found.append(
            Finding(
                "episodes", Level.FAIL,
                f"the bag holds no episode: nothing RUNNING on {EPISODE_TOPIC}; start and end episodes while "
                "recording.",
            )
        )  # fmt: skip
    return found


def _dropped(path: Path) -> list[Finding]:
    """What the recorder itself says that it could not write."""
    try:
        counts = json.loads(closing_metadata(path).get("dropped") or "{}")
        total = sum(int(count) for count in counts.values())
    except (DataError, ValueError, TypeError, AttributeError):
        return []  # the index at the end is damaged, which `_closed` or the reading has told
    if not total:
        return []
    most = max(counts, key=lambda topic: int(counts[topic]))
    return [
        Finding(
            "dropped", Level.WARN, value=float(total),
            sentence=f"the recorder could not write {total} messages, most of {most} ({counts[most]}): "
            "is the disk too slow or nearly full?",
        )
    ]  # fmt: skip


def _closed(path: Path) -> bool:
    file = McapFile(path)
    # The flag is set before the first record is read.
    next(iter(file.messages()), None)
    return file.closed


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "subject": finding.subject,
        "level": finding.level.name.lower(),
        "value": finding.value,
        "sentence": finding.sentence,
    }
