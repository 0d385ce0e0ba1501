"""Any data set of demonstrations to any format: on all cores, to be gone on with after an interruption.

Nothing has its final name before it is whole: a group's files are written beside theirs and renamed, a line
of the journal says that the group is done, and the folder gets its name when every group is.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

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
from vla_ros.data.open import bags_in
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

    def __post_init__(self) -> None:
        """Check what was given."""
        strange = [outcome for outcome in self.outcomes if outcome not in ANY_OUTCOME]
        if strange:
            raise ConfigurationError(
                f"the outcome '{strange[0]}' cannot be asked for; {', '.join(ANY_OUTCOME)} can."
                f"{did_you_mean(strange[0], ANY_OUTCOME)}"
            )
        for what, value in (("group size", self.group_size), ("number of workers", self.workers)):
            if value is not None and value < 1:
                raise ConfigurationError(f"the {what} {value} must be 1 or more.")


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
        if source.info.kind == "bags" and not options.accept_failed:
            _audit(workers, paths, progress)
        looks = _look(workers, source, progress)
        left_out = Counter(look.outcome for look in looks if not _taken(look, options))
        indices = [index for index, look in enumerate(looks) if _taken(look, options)]
        if not indices:
            raise DataError(_nothing_left(source, left_out))
        looks = [looks[index] for index in indices]
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


def _nothing_left(source: Dataset, left_out: Mapping[str, int]) -> str:
    if not left_out:
        return f"{source.info.path} has no episodes."
    counts = ", ".join(f"{count} {outcome}" for outcome, count in left_out.items())
    return f"{source.info.path} has no episode of the outcomes that are taken: {counts}."


def _audit(workers: Workers, paths: Sequence[Path], progress: Callable[[Progress], None]) -> None:
    bags = [bag for path in paths for bag in bags_in(path)]
    failed: list[tuple[Path, str]] = []
    done = 0

    def take(bag: Path, sentence: str) -> None:
        nonlocal done
        done += 1
        progress(Progress("audit", done, len(bags)))
        if sentence:
            failed.append((bag, sentence))

    workers.run(_audit_job, bags, take)
    if failed:
        more = f" `vla-ros bag audit` shows the other {len(failed) - 1} as well;" if len(failed) > 1 else ""
        raise DataError(
            f"{len(failed)} of {len(bags)} bags fail the audit, nothing was converted: {min(failed)[1]}{more}"
            " --accept-failed converts them as they are."
        )


def _audit_job(state: Mapping[str, Any], bag: Path) -> str:
    from vla_ros.data.audit import audit_bag

    audit = audit_bag(bag)
    return audit.sentence() if audit.failed else ""


def _look(workers: Workers, source: Dataset, progress: Callable[[Progress], None]) -> list[Look]:
    found: dict[int, Look] = {}

    def take(index: int, look: Look) -> None:
        found[index] = look
        progress(Progress("look", len(found), len(source)))

    workers.share(source=source)
    workers.run(_look_job, range(len(source)), take)
    return [found[index] for index in range(len(source))]


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
