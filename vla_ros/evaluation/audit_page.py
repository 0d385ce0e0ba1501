"""The page of an audit: every episode with its pictures, verdicts and curves, in one file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from vla_ros.data.audit import AuditRules, AuditSummary, BagAudit, EpisodeAudit, Finding, Level
from vla_ros.data.audit.check_actions import clip_marks
from vla_ros.data.audit.check_images import frozen_stretches
from vla_ros.data.audit.finding import VERDICTS, worst
from vla_ros.data.audit.look import Look
from vla_ros.data.audit.record import CameraRecord
from vla_ros.evaluation.page import cards, page, section, strip, table
from vla_ros.evaluation.signal_plots import Shade, Signal, signals_figure, stretches_of
from vla_ros.types import NANOSECONDS, SafetyState

TONES = {Level.PASS: "good", Level.WARN: "warn", Level.FAIL: "bad"}
MARKS = {Level.PASS: "pass", Level.WARN: "remark", Level.FAIL: "fail"}
PICTURES = 10
"""Pictures of a camera's strip."""
WINDOW = 0.5
"""Seconds over which a stream's rate is drawn."""
LEAST = 10
"""Messages that this time holds at least."""


def audit_page(summary: AuditSummary, rules: AuditRules, episodes: Iterable[str]) -> str:
    """The whole page; `episodes` are the sections made by `episode_section`."""
    audits, counts = summary.audits, summary.verdicts
    numbers = [
        ("bags", summary.bags),
        ("usable", counts[Level.PASS]),
        ("with remarks", counts[Level.WARN]),
        ("not usable", counts[Level.FAIL]),
        ("episodes", len(summary.episodes)),
    ]
    if summary.discarded:
        numbers.append(("discarded, left out", summary.discarded))
    parts = [
        cards([(name, str(number)) for name, number in numbers]),
        _bags(audits, summary.unreadable),
        _frequent(summary.episodes),
        *episodes,
        _limits(rules),
    ]
    names = ", ".join(bag_label(audit.path) for audit in audits[:5]) + (", ..." if len(audits) > 5 else "")
    return page("Audit of recorded bags", names, [part for part in parts if part])


def episode_section(look: Look, episode: EpisodeAudit, bag: Path) -> str:
    """One episode: verdict, findings, picture strips, rates, actions, states."""
    said = f"{bag_label(bag)}: " + (f'"{episode.instruction}", ' if episode.instruction else "")
    said += f"{episode.outcome or 'not ended'}, {episode.steps} steps, {episode.seconds:.1f} s"
    findings = sorted(episode.findings, key=lambda f: -f.level)
    bad = [f for f in findings if f.level is not Level.PASS]
    good = [f for f in findings if f.level is Level.PASS]
    why = ", ".join(dict.fromkeys(f.check for f in bad if f.level is episode.level))
    parts = [_said(episode.level, VERDICTS[episode.level] + (f": {why}" if why else "")), _list(bad)]
    for name, camera in look.record.cameras.items():
        if camera.thumbnails:
            parts += [f"<h3>camera {escape(name)}</h3>", _strip(look, camera)]
    parts += ["<h3>rates: messages a second</h3>", _rates(look), *_curves(look)]
    parts.append(f"<details><summary>{len(good)} checks passed</summary>{_list(good)}</details>")
    return section(f"Episode {episode.episode_id}", said, *parts, long=True)


def _bags(audits: Sequence[BagAudit], unreadable: Sequence[str]) -> str:
    """What is wrong with whole bags, and all of them in a table when there are several."""
    several = len(audits) + len(unreadable) > 1
    said = [_bag(audit) for audit in audits if not several or worst(audit.findings) is not Level.PASS]
    said += [_said(Level.FAIL, sentence) for sentence in unreadable]
    rows = [
        [
            bag_label(audit.path),
            VERDICTS[audit.level],
            str(len(audit.taken)),
            str(sum(episode.steps for episode in audit.taken)),
            f"{sum(episode.seconds for episode in audit.taken):.1f}",
        ]
        for audit in audits
    ]
    listed = [table(["bag", "verdict", "episodes", "steps", "seconds"], rows, words=2)] if several else []
    return section("Bags", "", *said, *listed, long=True)


def bag_label(path: Path) -> str:
    """A bag's name with its folder's, which is often the robot or the day."""
    return "/".join(path.parts[-2:])


def _bag(audit: BagAudit) -> str:
    count = len(audit.episodes)
    text = f"{bag_label(audit.path)}: {VERDICTS[audit.level]}, {count} episode{'s' * (count != 1)}."
    own = [f.sentence for f in audit.findings if f.level is worst(audit.findings)]
    return _said(audit.level, " ".join([text, *own]))


def _said(level: Level, sentence: str) -> str:
    return f'<p class="verdict {TONES[level]}">{escape(sentence)}</p>'


def _frequent(episodes: Sequence[EpisodeAudit]) -> str:
    """What was found how often, when there are several episodes."""
    if len(episodes) < 2:
        return ""
    rows = []
    for check in dict.fromkeys(finding.check for e in episodes for finding in e.findings):
        levels = [worst(tuple(f for f in e.findings if f.check == check)) for e in episodes]
        if max(levels) is not Level.PASS:
            rows.append([check, str(levels.count(Level.FAIL)), str(levels.count(Level.WARN))])
    if not rows:
        return ""
    return section("What was found", "Episodes by check.", table(["check", "fail", "remark"], rows))


def _list(findings: Sequence[Finding]) -> str:
    items = (
        f'<li><b class="{TONES[f.level]}">{MARKS[f.level]}</b>{escape(f.sentence)}</li>' for f in findings
    )
    return f'<ul class="findings">{"".join(items)}</ul>' if findings else ""


def _strip(look: Look, camera: CameraRecord) -> str:
    kept = camera.thumbnails
    chosen = np.unique(np.linspace(0, len(kept) - 1, min(PICTURES, len(kept))).round().astype(int))
    return strip((f"{look.at(kept[k].stamp):.1f} s", kept[k].jpeg) for k in chosen)


def _rates(look: Look) -> str:
    """Messages a second in a window that slides over the episode, the nominal rate dashed."""
    signals = []
    begin, end = look.edges
    for name, stream in look.streams.items():
        if not stream.needed or (name in look.senders and look.record.imported):
            continue
        stamps = (np.sort(stream.stamps) - begin) / NANOSECONDS
        period = look.stream_period(stream)
        window = max(WINDOW, LEAST * period)
        times = np.arange(0.0, max((end - begin) / NANOSECONDS - window, 0.0) + 1e-9, window / 4)
        counts = np.searchsorted(stamps, times + window) - np.searchsorted(stamps, times)
        nominal = [1.0 / period] if period and (stream.rate or name in look.senders) else []
        signals.append(Signal(name, times + window / 2, counts / window, limits=nominal, floor=0.0))
    return signals_figure(signals, look.record.seconds, (), "Rates of the streams")


def _curves(look: Look) -> list[str]:
    steps, space = look.steps, look.space
    shades = _shades(look)
    parts = []
    if len(steps) and steps.values.shape[1]:
        times = (steps.stamps - look.edges[0]) / NANOSECONDS
        marks, clips = clip_marks(look), look.clips
        width = steps.values.shape[1]
        named = space is not None and space.dimension == width
        signals = []
        for k in range(width):
            name = (
                f"{space.dimensions[k]} [{space.units[k]}]" if named and space is not None else f"action {k}"
            )
            signals.append(
                Signal(
                    name, times, steps.values[:, k], steps=True,
                    marked=marks[0][:, k] | marks[1][:, k] if marks is not None else None,
                    limits=[float(c[k]) for c in clips if np.isfinite(c[k])] if clips is not None else (),
                )
            )  # fmt: skip
        title = f"actions ({space.title})" if space is not None else "actions"
        parts += [
            f"<h3>{escape(title)}; dots lie at a clip or beyond</h3>",
            signals_figure(signals, look.record.seconds, shades, "Actions"),
        ]
    stamps, joints = look.record.joints()
    if len(stamps):
        times = (stamps - look.edges[0]) / NANOSECONDS
        unit = "" if look.record.imported else " [rad]"
        signals = [
            Signal(f"{name}{unit}", times, joints[:, k]) for k, name in enumerate(look.record.joint_names)
        ]
        seen = look.record.observations
        if seen:
            at = np.array([(o.stamp - look.edges[0]) / NANOSECONDS for o in seen])
            signals.append(Signal("gripper width [m]", at, np.array([o.width for o in seen]), floor=0.0))
        parts += ["<h3>states</h3>", signals_figure(signals, look.record.seconds, shades, "States")]
    return parts


def _shades(look: Look) -> list[Shade]:
    """Idle stretches, frozen cameras, a person who took over, and what the controller did."""
    shades = [Shade("idle", "faint", look.idle.stretches)]
    frozen = [span for camera in look.record.cameras.values() for span in frozen_stretches(look, camera)]
    shades.append(Shade("camera frozen", "fault", frozen))
    steps = look.steps
    if len(steps):
        times = (steps.stamps - look.edges[0]) / NANOSECONDS
        taken = stretches_of(times, steps.interventions, look.period or 0.1)
        shades.append(Shade("person took over", "two", taken))
    stamps, states = look.record.controller()
    if len(stamps):
        times = (stamps - look.edges[0]) / NANOSECONDS
        period = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        for name, tone, which in (
            ("limited", "limited", (SafetyState.LIMITED,)),
            ("holding", "holding", (SafetyState.HOLDING,)),
            ("stopped", "stopped", (SafetyState.STOPPING, SafetyState.STOPPED, SafetyState.FAULT)),
        ):
            shades.append(Shade(name, tone, stretches_of(times, np.isin(states, which), period)))
    return shades


def _limits(rules: AuditRules) -> str:
    rows = []
    for name, limit, said in rules.limits():
        if isinstance(limit, float | int):
            rows.append([name.replace("_", " "), said["what"], "", f"{limit:g} {said['unit']}"])
            continue
        warn, fail = ("" if v is None else f"{v:g}" for v in (limit.warn, limit.fail))
        rows.append([name.replace("_", " "), f"{said['what']}, {said['unit']}", warn, fail])
    text = "From where on a number is worth a remark, and from where on it fails."
    return section("Limits", text, table(["limit", "of what", "remark", "fail"], rows, words=2), long=True)
