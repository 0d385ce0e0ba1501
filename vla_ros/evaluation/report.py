"""A run's report: `report.html` and `video.mp4` from nothing but its bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape
from pathlib import Path

import numpy as np

from vla_ros.contract import load_contract
from vla_ros.errors import DataError
from vla_ros.evaluation.judge import Verdict, judge_run
from vla_ros.evaluation.latency import Hop, Pace, hops, pace, rates
from vla_ros.evaluation.page import cards, missing, page, picture, section, table
from vla_ros.evaluation.plots import joint_figures, path_figure, tracking_figure
from vla_ros.evaluation.run_data import EpisodeEvent, RunData, load_run
from vla_ros.evaluation.timeline import intervention_spans, timeline_figure
from vla_ros.evaluation.video import make_video, stills
from vla_ros.robots.spec import RobotSpec

_OUTCOMES = {0: "not started", 1: "not finished", 2: "done", 3: "not done", 4: "aborted"}
_LISTED = 25
"""Violations that are listed one by one."""


@dataclass(frozen=True)
class TaskResult:
    """How one episode ended."""

    episode_id: str
    instruction: str
    outcome: str
    done: bool
    reason: str
    seconds: float

    def sentence(self) -> str:
        """One plain line."""
        reason = f": {self.reason}" if self.reason else "."
        return f'"{self.instruction}": {self.outcome} after {self.seconds:.1f} s{reason}'


@dataclass(frozen=True)
class ReportSummary:
    """What was made and what it says."""

    report: Path
    video: Path | None
    tasks: tuple[TaskResult, ...]
    verdict: Verdict
    hops: tuple[Hop, ...]
    pace: Pace | None
    """None: no two answers of a policy followed each other."""

    @property
    def too_slow(self) -> str:
        """What it cost that the policy was too slow for its action rate; empty when it was not."""
        return self.pace.sentence() if self.pace is not None else ""


def make_report(bag: Path, robot: RobotSpec | str, out_dir: Path, video: bool = True) -> ReportSummary:
    """Write `report.html`, and `video.mp4` when cameras were recorded, into `out_dir`.

    `robot` may be a robot's name or the path of a contract.
    Raises `DataError` when the bag cannot be read or the folder not be written, `ConfigurationError` when the
    robot is unknown.
    """
    if isinstance(robot, str):
        robot = load_contract(robot).robot
    bag, out_dir = Path(bag), Path(out_dir)
    run = load_run(bag, robot)
    verdict = judge_run(run, robot)
    movie, pictures, trouble = None, [], "No camera frames were recorded."
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        if not video:
            trouble = "No video was asked for."
        elif make_video(run, robot, out_dir / "video.mp4"):
            movie = out_dir / "video.mp4"
            pictures = stills(movie)
        summary = ReportSummary(
            out_dir / "report.html", movie, tuple(task_results(run)), verdict, tuple(hops(run)), pace(run)
        )
        summary.report.write_text(_html(run, robot, summary, pictures, trouble), encoding="utf-8")
    except OSError as error:
        raise DataError(f"the report cannot be written to {out_dir}: {error.strerror or error}.") from error
    return summary


def task_results(run: RunData) -> list[TaskResult]:
    """The last word on each episode: the supervisor's, or the simulator's where there is no supervisor."""
    topics = {event.topic for event in run.episodes}
    topic = "/vla/episode_status" if "/vla/episode_status" in topics else "/simulator/episode_status"
    last: dict[str, EpisodeEvent] = {}
    for event in run.episodes:
        if event.topic == topic and event.episode_id:
            last[event.episode_id] = event
    return [
        TaskResult(
            e.episode_id,
            e.instruction,
            _OUTCOMES.get(e.outcome, "of unknown outcome"),
            e.outcome == 2,
            e.reason,
            e.elapsed,
        )
        for e in last.values()
    ]


def _html(run: RunData, robot: RobotSpec, summary: ReportSummary, pictures: list[bytes], trouble: str) -> str:
    seconds = max(run.stop - run.start, 0) * 1e-9
    # Simulated clocks begin near zero; a date is shown only where it is one.
    when = datetime.fromtimestamp(run.start * 1e-9, timezone.utc)
    date = f"{when:%Y-%m-%d %H:%M:%S} UTC, " if when.year > 2000 else ""
    version = run.metadata.get("vla_ros_version", "")
    made_by = f", recorded by vla_ros {version}" if version else ""
    parts = [*_head(run, summary), *_cards(run, summary, seconds)]
    parts.append(_video(summary, pictures, trouble))
    parts.append(_timeline(run))
    parts.append(_path(run, robot))
    parts.append(_joints(run, robot, summary.verdict))
    parts.append(_latency(run, summary))
    parts.append(_interventions(run))
    parts.append(_judgement(robot, summary.verdict))
    parts += _contract(run)
    return page(f"Run of {robot.title}", f"{date}{seconds:.1f} s{made_by}", parts)


def _head(run: RunData, summary: ReportSummary) -> Iterator[str]:
    lines = [
        f'<div class="task"><span class="tag {"good" if t.done else "bad"}">{escape(t.outcome)}</span>'
        f'<span><b>{escape(t.instruction)}</b><span class="soft">{escape(t.reason)}</span></span>'
        f'<span class="soft">{t.seconds:.1f} s</span></div>'
        for t in summary.tasks
    ]
    if not run.closed:
        lines.append(
            missing("The bag was not closed: its recorder was killed.  What follows is what it saved.")
        )
    verdict = summary.verdict
    shade = "bad" if verdict.violations or not verdict.ticks else "good"
    said = f'<p class="verdict {shade}">{escape(verdict.sentence())}</p>'
    slow = [f'<p class="verdict bad">{escape(summary.too_slow)}</p>'] if summary.too_slow else []
    yield section("Tasks", "", *(lines or [missing("No episode was recorded.")]), said, *slow)


def _cards(run: RunData, summary: ReportSummary, seconds: float) -> Iterator[str]:
    verdict, statuses = summary.verdict, run.statuses
    end_to_end = summary.hops[-1]
    items = [
        ("duration", f"{seconds:.1f} s"),
        ("policy outputs", str(len(run.outputs.stamps))),
        ("interventions", str(len(intervention_spans(run)))),
    ]
    if verdict.ticks:
        items += [
            ("control rate", f"{1.0 / verdict.period:.0f} Hz"),
            *_speeds(verdict),
            ("least height over floor", f"{100 * verdict.lowest_point:.1f} cm"),
        ]
    if len(statuses):
        items.append(("period error p99, worst", f"{1e3 * float(statuses.period_error_p99.max()):.2f} ms"))
    if len(end_to_end.seconds):
        items.append(("camera to command, median", f"{1e3 * end_to_end.percentile(50):.0f} ms"))
    if summary.pace is not None:
        items.append(("share of the policy's pace", f"{summary.pace.share:.0%}"))
    yield cards(items)


def _speeds(verdict: Verdict) -> Iterator[tuple[str, str]]:
    if verdict.speeds is None:
        return
    speeds = verdict.speeds
    tool, turn, elbow = speeds.limits
    yield "largest tool speed", f"{speeds.tool:.2f} of {tool:g} m/s"
    yield "largest turning speed", f"{speeds.turn:.2f} of {turn:g} rad/s"
    yield "largest elbow speed", f"{speeds.elbow:.2f} of {elbow:g} m/s"


def _video(summary: ReportSummary, pictures: list[bytes], trouble: str) -> str:
    if summary.video is None:
        return section("What the cameras saw", "", missing(trouble))
    images = "".join(picture(jpeg, f"Still {k + 1} of the video") for k, jpeg in enumerate(pictures))
    return section(
        "What the cameras saw",
        "The video lies beside this page; the stills are part of it.",
        f'<video controls preload="metadata" src="{summary.video.name}"></video>',
        f'<div class="stills">{images}</div>',
    )


def _timeline(run: RunData) -> str:
    if run.stop <= run.start:
        return section("Timeline", "", missing("The bag holds no stretch of time."))
    text = "State of the safety controller, and what it did about what it was given."
    if not len(run.statuses):
        text = "No safety status was recorded, so interventions are missing here."
    return section("Timeline", text, timeline_figure(run))


def _path(run: RunData, robot: RobotSpec) -> str:
    if not len(run.setpoints) and not run.measured.stamps.size:
        return section("End-effector path", "", missing("Neither setpoints nor joint states were recorded."))
    text = f"Tool centre point in {robot.base_frame}; circle: start, square: end.  The box is the workspace."
    return section("End-effector path", text, path_figure(run, robot))


def _joints(run: RunData, robot: RobotSpec, verdict: Verdict) -> str:
    if not verdict.ticks:
        return section("Joints", "", missing("No joint setpoints were recorded."))
    parts = []
    for name, svg in zip(robot.joint_names, joint_figures(run, robot, verdict.period), strict=True):
        parts += [f"<h3>{escape(name)}</h3>", svg]
    if len(run.measured.stamps) > 1 and len(run.setpoints) > 1:
        parts += ["<h3>largest difference between measured and commanded joints</h3>", tracking_figure(run)]
    text = (
        "Commanded motion; dashed: applied limits; per cent: largest share of the limit.  Velocity, "
        "acceleration and jerk are differences of the commanded positions from tick to tick."
    )
    return section("Joints against their limits", text, *parts, long=True)


def _latency(run: RunData, summary: ReportSummary) -> str:
    def milliseconds(hop: Hop, share: float) -> str:
        return f"{1e3 * hop.percentile(share):.1f}" if len(hop.seconds) else "-"

    rows = [
        [hop.name, str(len(hop.seconds)), *(milliseconds(hop, share) for share in (50, 95, 99, 100))]
        for hop in summary.hops
    ]
    found = [
        [rate.topic, str(rate.count), _number(rate.rate, "{:.1f}"), _number(1e3 * rate.largest_gap, "{:.0f}")]
        for rate in rates(run)
    ]
    return section(
        "Rates and latencies",
        "Messages are matched by the stamp of their observation; times are those of sending.",
        table(["hop", "count", "median [ms]", "p95 [ms]", "p99 [ms]", "max [ms]"], rows),
        "<h3>topics</h3>",
        table(["topic", "messages", "rate [Hz]", "longest gap [ms]"], found),
    )


def _interventions(run: RunData) -> str:
    groups: dict[tuple[str, str, str], list[float]] = {}
    for span in intervention_spans(run):
        key = (span.action.name.lower(), span.reason.replace("_", " "), span.subject)
        entry = groups.setdefault(key, [0, 0.0, 0.0])
        entry[0] += 1
        entry[1] += (span.stop - span.start) * 1e-9
        entry[2] = max(entry[2], span.amount, key=abs)
    rows = [
        [*key, f"{count:.0f}", f"{seconds:.1f}", f"{amount:.3g}"]
        for key, (count, seconds, amount) in sorted(groups.items(), key=lambda item: -item[1][1])
    ]
    head = ["action", "reason", "joint or link", "times", "seconds", "largest amount"]
    content = table(head, rows, words=3) if rows else missing("The controller did not intervene.")
    errors = [[f"{(stamp - run.start) * 1e-9:.1f}", text] for stamp, text in run.policy_errors[:_LISTED]]
    more = (
        ["<h3>what the policy said instead of acting</h3>", table(["at [s]", "words"], errors, words=2)]
        if errors
        else []
    )
    return section("Interventions", "Amounts are in the unit of the reason.", content, *more)


def _judgement(robot: RobotSpec, verdict: Verdict) -> str:
    text = (
        "From the recorded commands alone, with kinematics, differences and distances that the controller "
        "does not use, against the applied limits."
    )
    if not verdict.ticks:
        return section("Verdict", text, missing(verdict.sentence()))
    rows = [
        [name, *(f"{100 * verdict.peaks[k, j]:.1f} %" for k in range(3)), f"{verdict.noise[2, j]:.1g}"]
        for j, name in enumerate(robot.joint_names)
    ]
    peaks = table(["joint", "velocity", "acceleration", "jerk", "rounding in jerk"], rows)
    parts = [
        f'<p class="verdict {"bad" if verdict.violations else "good"}">{escape(verdict.sentence())}</p>',
        peaks,
    ]
    if verdict.violations:
        listed = [
            [v.kind.replace("_", " "), v.subject, str(v.tick), f"{v.value:.6g}", f"{v.limit:.6g}"]
            for v in verdict.violations[:_LISTED]
        ]
        parts += [
            f"<h3>first {len(listed)} violations</h3>",
            table(["kind", "of", "tick", "value", "limit"], listed, 2),
        ]
    nearest = (
        f"{100 * verdict.nearest_distance:.1f} cm"
        if np.isfinite(verdict.nearest_distance)
        else f"more than {100 * robot.collision.slow_distance:.0f} cm"
    )
    facts = [
        f"Own bodies came no closer than {nearest}.",
        f"{verdict.missing_ticks} ticks are not in the bag and were not judged."
        if verdict.missing_ticks
        else "",
        "The speed of the tool centre point is shaped by the controller and not judged.",
        *verdict.notes,
    ]
    parts.append(missing("  ".join(fact for fact in facts if fact)))
    return section("Verdict", text, *parts)


def _contract(run: RunData) -> Iterator[str]:
    if run.metadata.get("contract"):
        text = escape(run.metadata["contract"])
        yield section(
            "Contract", "", f"<details><summary>as embedded in the bag</summary><pre>{text}</pre></details>"
        )


def _number(value: float, form: str) -> str:
    return form.format(value) if np.isfinite(value) else "-"
