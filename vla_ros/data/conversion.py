"""Any data set of demonstrations to any format: on all cores, to be gone on with after an interruption.

Nothing has its final name before it is whole: a group's files are written beside theirs and renamed, a line
of the journal says that the group is done, and the folder gets its name when every group is.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vla_ros.data.conversion_audit import (
    Skipped,
    audit_bags,
    bag_sources,
    taken_by_outcome,
    unreadable_bags,
)
from vla_ros.data.conversion_plan import (
    Look,
    check_one_form,
    checked,
    fingerprint,
    groups,
    look_at,
    plan_digest,
)
from vla_ros.data.conversion_work import WorkFolder, refuse_existing
from vla_ros.data.dataset import Dataset
from vla_ros.data.selection import source_paths
from vla_ros.data.workers import Workers
from vla_ros.data.writing import Plan, Writer
from vla_ros.errors import ConfigurationError, DataError, did_you_mean

FORMATS = ("lerobot", "rlds", "bags")
OUTCOMES = ("success", "failure")
"""Outcomes that are taken by default; an episode that states none is always taken, a discarded one never."""
ANY_OUTCOME = (*OUTCOMES, "aborted")


@dataclass(frozen=True)
class Progress:
    """How far a conversion is."""

    phase: str
    """`audit`, `look` or `write`."""
    done: int
    total: int
    """Bags, episodes or steps."""
    per_second: float = 0.0
    seconds_left: float | None = None


@dataclass(frozen=True)
class Options:
    """How to convert."""

    name: str = ""
    """Of the data set; the target's own name where empty."""
    group_size: int | None = None
    """Episodes a file; None: as many as fill one."""
    workers: int | None = None
    """Processes; None: as many as there are cores."""
    outcomes: tuple[str, ...] = OUTCOMES
    accept_failed: bool = False
    """Convert bags that the audit fails."""
    rate: float | None = None
    """Steps a second [Hz] where the source states none."""
    codec: str = "h264"
    """Of LeRobot's videos: `h264` or `av1`."""
    skip_failed: bool = False
    """Leave out what the audit fails, and bags that cannot be read, instead of refusing all."""

    def __post_init__(self) -> None:
        """Check what was given."""
        strange = [outcome for outcome in self.outcomes if outcome not in ANY_OUTCOME]
        if strange:
            raise ConfigurationError(
                f"the outcome '{strange[0]}' cannot be asked for; {', '.join(ANY_OUTCOME)} can."
                f"{did_you_mean(strange[0], ANY_OUTCOME)}"
            )
        if self.skip_failed and self.accept_failed:
            raise ConfigurationError(
                "--skip-failed leaves out what --accept-failed converts as it is; give one of them."
            )
        for what, value in (("group size", self.group_size), ("number of workers", self.workers)):
            if value is not None and value < 1:
                raise ConfigurationError(f"the {what} {value} must be 1 or more.")
        if self.rate is not None and not 0.0 < self.rate < math.inf:
            raise ConfigurationError(f"the rate {self.rate:g} (--rate) must be above 0 steps a second.")


@dataclass(frozen=True)
class Conversion:
    """What was done."""

    target: Path
    format: str
    episodes: int
    steps: int
    seconds: float
    """Wall time, without what an earlier, interrupted run did."""
    groups: int
    groups_kept: int
    """Of these, finished by an earlier run."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Episodes not taken, by outcome."""
    skipped: tuple[Skipped, ...] = ()
    """What was left out because it fails the audit or cannot be read."""
    rounded: float = 0.0
    """Largest change of an action or state by rounding to float32; 0: exact."""
    video_loss: Mapping[str, Any] = field(default_factory=dict)
    """By camera, for LeRobot; see `vla_ros.data.lerobot.writer.video_loss`."""


def convert(
    source: Dataset,
    target: Path,
    format: str,
    options: Options | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Conversion:
    """Write the episodes of `source` as a new data set.

    Args:
        source: see `vla_ros.data.open.open_dataset`, and `Joined` and `Selected` for parts and sums.
        target: folder that does not exist yet.
        format: one of `FORMATS`.
        options: see `Options`.
        progress: called now and then, in the calling process.

    Raises `DataError` when the target exists, an episode does not fit, a bag fails its audit, the disk is
    full; what is finished by then is kept in a hidden folder beside the target, and the same call goes on
    from there.
    """
    options, target, began = options or Options(), Path(target), time.monotonic()
    writer = _writer(format, options)
    refuse_existing(target)
    paths = source_paths(source)
    before = fingerprint(paths)
    with Workers(options.workers or os.cpu_count() or 1) as workers:
        indices, left_out, skipped = _select(workers, source, options, progress)
        looks = _look(workers, source, indices, progress)
        left_out += Counter(look.outcome for look in looks if not _taken(look, options))
        chosen = [(index, look) for index, look in zip(indices, looks, strict=True) if _taken(look, options)]
        if not chosen:
            raise DataError(_nothing_left(source, left_out, skipped))
        indices, looks = [index for index, _ in chosen], [look for _, look in chosen]
        check_one_form(looks)
        plan = _plan(source, target, format, options, looks)
        header = {
            "format": [format, options.codec if format == "lerobot" else ""],
            "data": before,
            "episodes or options": plan_digest(looks, plan.groups),
            "name": plan.name,
        }
        with WorkFolder(target, header) as work:
            plan = replace(plan, target=work.data)
            kept = len(work.finished)
            workers.share(indices=indices, plan=plan, writer=writer, looks=looks)
            _write(workers, work, plan, progress)
            reports = [work.finished[group.index] for group in plan.groups]
            if fingerprint(paths) != before:
                raise DataError(
                    f"{', '.join(map(str, paths))} was changed while it was converted; nothing was finished, "
                    f"delete {work.path} and convert again."
                )
            writer.finish(plan, reports)
            work.complete()
    return Conversion(
        target=target,
        format=format,
        episodes=len(looks),
        steps=sum(look.steps for look in looks),
        seconds=time.monotonic() - began,
        groups=len(plan.groups),
        groups_kept=kept,
        left_out=dict(left_out),
        skipped=tuple(skipped),
        rounded=max(look.rounded for look in looks),
        video_loss=_loss(format, reports),
    )


def _writer(format: str, options: Options) -> Writer:
    if format == "lerobot":
        from vla_ros.data.lerobot import LeRobotWriter

        return LeRobotWriter(codec=options.codec)
    if format == "rlds":
        from vla_ros.data.rlds_writer import RldsWriter

        writer: Writer = RldsWriter()
        return writer
    if format == "bags":
        from vla_ros.data.bags_writer import BagsWriter

        return BagsWriter()
    raise ConfigurationError(f"the format '{format}' is not known; {', '.join(FORMATS)} are.")


def _taken(look: Look, options: Options) -> bool:
    return not look.outcome or look.outcome in options.outcomes


def _nothing_left(source: Dataset, left_out: Mapping[str, int], skipped: Sequence[Skipped]) -> str:
    if skipped:
        return f"Every episode of {source.info.path} fails the audit, the first: {skipped[0].sentence}"
    if not left_out:
        return f"{source.info.path} has no episodes."
    counts = ", ".join(f"{count} {outcome}" for outcome, count in left_out.items())
    return f"{source.info.path} has no episode of the outcomes that are taken: {counts}."


def _select(
    workers: Workers, source: Dataset, options: Options, progress: Callable[[Progress], None]
) -> tuple[list[int], Counter[str], list[Skipped]]:
    """Which episodes to look at, how many are left out by outcome, and what fails the audit.

    What is left out by outcome is not audited.  Raises `DataError` where something fails and is not skipped.
    """
    if source.info.kind != "bags":
        return list(range(len(source))), Counter(), []
    wrong, left_out = unreadable_bags(bag_sources(source), options.outcomes)
    if wrong and not options.skip_failed:
        raise DataError(next(iter(wrong.values())))
    indices, others = taken_by_outcome(source, options.outcomes)
    skipped = [Skipped(str(bag), "unreadable", sentence) for bag, sentence in wrong.items()]
    if options.accept_failed:
        return indices, left_out + others, skipped
    failures, failed, audited = audit_bags(
        workers, source, indices, lambda done, total: progress(Progress("audit", done, total))
    )
    if failures and not options.skip_failed:
        first = next(iter(failures.values())).sentence
        more = f" `vla-ros bag audit` shows the other {len(failures) - 1} as well;" * (len(failures) > 1)
        raise DataError(
            f"{len(failures)} of {audited} bags fail the audit, nothing was converted: {first}{more} "
            "--skip-failed leaves them out, --accept-failed converts them as they are."
        )
    skipped += failed.values()
    return [index for index in indices if index not in failed], left_out + others, skipped


def _look(
    workers: Workers, source: Dataset, indices: Sequence[int], progress: Callable[[Progress], None]
) -> list[Look]:
    found: dict[int, Look] = {}

    def take(index: int, look: Look) -> None:
        found[index] = look
        progress(Progress("look", len(found), len(indices)))

    workers.share(source=source)
    workers.run(_look_job, indices, take)
    return [found[index] for index in indices]


def _look_job(state: Mapping[str, Any], index: int) -> Look:
    return look_at(state["source"].episode(index))


def _plan(source: Dataset, target: Path, format: str, options: Options, looks: Sequence[Look]) -> Plan:
    from vla_ros.data.lerobot.writer import MAX_SECONDS

    info = source.info
    rate = info.rate or looks[0].rate
    if options.rate is not None:
        if rate and rate != options.rate:
            raise ConfigurationError(
                f"{info.path} states {rate:g} steps a second; {options.rate:g} were given (--rate)."
            )
        rate = options.rate
    if not rate > 0:
        raise DataError(f"{info.path} does not state how many steps it has a second; --rate does.")
    most = MAX_SECONDS if format == "lerobot" else float("inf")
    tasks = tuple(dict.fromkeys(task for look in looks for task in look.tasks))
    return Plan(
        target=target,
        info=replace(info, rate=rate, episodes=len(looks)),
        name=options.name or target.name,
        tasks=tasks,
        groups=groups(looks, options.group_size, most, rate),
    )


def _write(workers: Workers, work: WorkFolder, plan: Plan, progress: Callable[[Progress], None]) -> None:
    total = sum(sum(group.lengths) for group in plan.groups)
    kept = sum(sum(group.lengths) for group in plan.groups if group.index in work.finished)
    done, began = kept, time.monotonic()

    def advance(steps: int) -> None:
        nonlocal done
        done += steps
        passed = time.monotonic() - began
        speed = (done - kept) / passed if passed > 0 else 0.0
        progress(Progress("write", done, total, speed, (total - done) / speed if speed > 0 else None))

    todo = [group.index for group in plan.groups if group.index not in work.finished]
    advance(0)
    workers.run(_write_job, todo, work.record, advance)


def _write_job(state: Mapping[str, Any], index: int) -> Mapping[str, Any]:
    plan, writer = state["plan"], state["writer"]
    group = plan.groups[index]
    span = slice(group.first_episode, group.first_episode + len(group.lengths))
    # The source is the one that the looks were taken at: it is open already.
    source, indices, looks = state["source"], state["indices"][span], state["looks"][span]

    def episodes() -> Any:
        for episode in checked(source, indices, looks):
            yield episode
            state["progress"](len(episode))

    try:
        report: Mapping[str, Any] = writer.write_group(plan, group, episodes())
    except OSError as error:
        raise DataError(f"{plan.target} cannot be written: {error.strerror or error}.") from error
    return report


def _loss(format: str, reports: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    if format != "lerobot":
        return {}
    from vla_ros.data.lerobot.writer import video_loss

    return video_loss(reports)
