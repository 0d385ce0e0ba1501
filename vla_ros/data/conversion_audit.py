"""What a conversion leaves out of its bags, before it looks at an episode: by outcome, then by the audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_ros.data.bag import read_bag
from vla_ros.data.bag_dataset import BagDataset
from vla_ros.data.dataset import Dataset
from vla_ros.data.demonstration_bag import OUTCOMES
from vla_ros.data.recorded_topics import EPISODE_STATUS
from vla_ros.data.selection import origin
from vla_ros.data.workers import Workers
from vla_ros.errors import DataError


@dataclass(frozen=True)
class Skipped:
    """A bag, or an episode of one, that was left out because it fails the audit or cannot be read."""

    name: str
    """Of the bag; with the episode where the bag has others."""
    cause: str
    """Equal for all that fail in the same."""
    sentence: str
    """Why, with the numbers of this one."""


@dataclass(frozen=True)
class Failures:
    """What the audit fails of one bag; each as (cause, sentence)."""

    sentence: str
    """The verdict; empty: nothing fails."""
    whole: tuple[str, str] | None = None
    """What fails every episode of it."""
    episodes: Mapping[int, tuple[str, str, str]] = field(default_factory=dict)
    """By number: (id, cause, sentence)."""


def taken_by_outcome(source: Dataset, outcomes: Sequence[str]) -> tuple[list[int], Counter[str]]:
    """Numbers of the episodes of bags that conversion takes, and how many it does not, by outcome.

    Raises `DataError`.
    """
    taken: list[int] = []
    left_out: Counter[str] = Counter()
    for index in range(len(source)):
        bags, inner = _bags(source, index)
        outcome = bags.outcome(inner)
        if outcome and outcome not in outcomes:
            left_out[outcome] += 1
        else:
            taken.append(index)
    return taken, left_out


def unreadable_bags(
    sources: Iterable[BagDataset], outcomes: Sequence[str]
) -> tuple[dict[Path, str], Counter[str]]:
    """Bags that could not be opened, with the sentence why, and how many episodes of such are left out.

    A bag whose every episode is left out by its outcome is not missed: it is counted by outcome.
    """
    wrong: dict[Path, str] = {}
    left_out: Counter[str] = Counter()
    for source in sources:
        for bag, sentence in source.unreadable.items():
            found = _outcomes(bag)
            if found and not set(found) & set(outcomes):
                left_out.update(found)
            else:
                wrong[bag] = sentence
    return wrong, left_out


def audit_bags(
    workers: Workers, source: Dataset, indices: Sequence[int], done: Callable[[int, int], None]
) -> tuple[dict[Path, Failures], dict[int, Skipped], int]:
    """Audit every bag that holds one of the episodes `indices`, in all processes.

    `done`: called with (bags that are done, bags).

    Returns what fails by bag, the episodes that fail, and how many bags were audited.
    """
    places: dict[Path, list[tuple[int, int, int]]] = {}
    for index in indices:
        bags, inner = _bags(source, index)
        bag, number, count = bags.place(inner)
        places.setdefault(bag, []).append((index, number, count))
    found: dict[Path, Failures] = {}

    def take(job: tuple[Path, list[int], int], failures: Failures) -> None:
        found[job[0]] = failures
        done(len(found), len(places))

    jobs = [(bag, [number for _, number, _ in rows], rows[0][2]) for bag, rows in places.items()]
    workers.run(_audit_job, jobs, take)
    skipped: dict[int, Skipped] = {}
    for bag, rows in places.items():
        failures = found[bag]
        for index, number, count in rows:
            if failures.whole is not None:
                skipped[index] = Skipped(str(bag), *failures.whole)
            elif number in failures.episodes:
                name, cause, sentence = failures.episodes[number]
                skipped[index] = Skipped(f"{bag}{f', episode {name}' * (count > 1)}", cause, sentence)
    wrong = {bag: failures for bag, failures in sorted(found.items()) if failures.sentence}
    return wrong, skipped, len(places)


def bag_sources(dataset: Dataset) -> list[BagDataset]:
    """Every data set of bags that a data set is made of."""
    from vla_ros.data.selection import Joined, Selected

    if isinstance(dataset, Selected):
        return bag_sources(dataset.dataset)
    if isinstance(dataset, Joined):
        return [found for part in dataset.datasets for found in bag_sources(part)]
    return [dataset] if isinstance(dataset, BagDataset) else []


def _bags(source: Dataset, index: int) -> tuple[BagDataset, int]:
    dataset, inner = origin(source, index)
    if not isinstance(dataset, BagDataset):
        raise DataError(f"{source.info.path} holds other data sets beside bags.")
    return dataset, inner


def _outcomes(bag: Path) -> list[str]:
    """Outcomes of the episodes of a bag, as far as it can be read; none where it cannot be."""
    found: dict[str, str] = {}
    try:
        for entry in read_bag(bag, (EPISODE_STATUS,), salvage=True):
            status = entry.message
            found.setdefault(str(status.episode_id), "aborted")
            found[str(status.episode_id)] = OUTCOMES.get(int(status.outcome), found[str(status.episode_id)])
    except DataError:
        return []
    found.pop("", None)
    return list(found.values())


def _audit_job(state: Mapping[str, Any], job: tuple[Path, list[int], int]) -> Failures:
    from vla_ros.data.audit import Finding, Level, audit_bag
    from vla_ros.data.audit.finding import joined

    def told(findings: Iterable[Finding]) -> tuple[str, str] | None:
        failed = [finding for finding in findings if finding.level is Level.FAIL]
        cause = " ".join(sorted({f"{finding.check} {finding.subject}" for finding in failed}))
        return (cause, joined(failed)) if failed else None

    bag, numbers, count = job
    audit = audit_bag(bag)
    whole = told(audit.findings)
    every = list(audit.episodes.values())
    if len(every) != count:  # the reader counts otherwise: nobody can say which are meant
        found = {number: told(episode.findings) for number, episode in enumerate(audit.taken)}
        whole = whole or next((cause for cause in found.values() if cause), None)
        return Failures(audit.sentence() if whole else "", whole)
    wrong = {n: (every[n].episode_id, *cause) for n in numbers if (cause := told(every[n].findings))}
    said = [whole[1]] if whole else []
    said += [f"Episode {name}: {sentence}" for name, _, sentence in wrong.values()]
    return Failures(f"{bag}: not usable: {' '.join(said)}" if said else "", whole, wrong)
