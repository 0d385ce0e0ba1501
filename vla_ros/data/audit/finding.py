"""What a check says of a recording: how bad it is, and one sentence with number, limit and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad a finding is."""

    PASS = 0
    WARN = 1
    """Usable; a person should know."""
    FAIL = 2
    """Conversion refuses it unless told otherwise."""


@dataclass(frozen=True)
class Finding:
    """One answer of one check."""

    check: str
    level: Level
    sentence: str
    subject: str = ""
    """Stream, camera or dimension it is about; empty: the whole episode."""
    value: float | None = None
    """The number that was judged."""
    advice: str = ""
    """What to do, where other findings may say the same; the sentence ends with it."""


def worst(findings: tuple[Finding, ...]) -> Level:
    """The worst level of all findings; `PASS` for none."""
    return max((finding.level for finding in findings), default=Level.PASS)


VERDICTS = {Level.PASS: "usable", Level.WARN: "usable with remarks", Level.FAIL: "not usable"}


def verdict(findings: tuple[Finding, ...]) -> str:
    """The word of `VERDICTS` and the sentences that say why."""
    level = worst(findings)
    if level is Level.PASS:
        return VERDICTS[level]
    return f"{VERDICTS[level]}: {joined([finding for finding in findings if finding.level is level])}"


def joined(findings: Sequence[Finding], between: str = " ") -> str:
    """Their sentences; advice that several give is said once, by the last of them."""
    last = {finding.advice: k for k, finding in enumerate(findings)}
    return between.join(
        finding.sentence
        if not finding.advice or last[finding.advice] == k
        else f"{finding.sentence.removesuffix(f': {finding.advice}.')}."
        for k, finding in enumerate(findings)
    )
