"""Checks of the streams: there, fast enough, without gaps, regular, in order."""

from __future__ import annotations

from collections.abc import Iterator

from vla_ros.data.audit.finding import Finding, Level
from vla_ros.data.audit.look import Look
from vla_ros.data.audit.record import Stream
from vla_ros.data.audit.timing import Timing
from vla_ros.data.demonstration import CLOCK_SET, set_back


def check_present(look: Look) -> Iterator[Finding]:
    """Every topic that steps are made of has messages."""
    for stream in look.record.streams.values():
        if stream.needed and not len(stream):
            yield Finding(
                "present", Level.FAIL, subject=stream.name, value=0.0,
                sentence=f"{stream.name}: no message on {stream.topic} within the episode; is its node up "
                "and the topic recorded?",
            )  # fmt: skip


def check_rate(look: Look) -> Iterator[Finding]:
    """The true rate against the nominal one, by stamps and by the time of the episode."""
    rules = look.rules.rate
    for name, stream, t in _timed(look):
        period = look.stream_period(stream)
        if name in look.senders or not stream.rate or not stream.needed:
            continue
        rate = true_rate(look, name)
        share = rate * period
        level, advice = rules.below(share), ""
        text = f"{name}: {rate:.4g} messages a second of {stream.rate:g} ({100 * share:.0f} %)"
        if level is not Level.PASS:
            text += f", at least {_percent(rules.warn, rules.fail, level)} are wanted"
            advice = look.remedy("look at the device, the network and the recorder's drops")
            text += f"; {t.lost} are missing: {advice}"
        elif share > 1.2:
            level = Level.WARN
            text += ", more than the contract says; correct the rate there, or look for a second publisher"
        yield Finding("rate", level, f"{text}.", name, rate, advice)


def true_rate(look: Look, name: str) -> float:
    """Messages a second [Hz]: by stamps, or over the episode where a stream begins late or ends early."""
    t, seconds = look.timings[name], look.record.seconds
    over_all = (t.count + 1) / seconds if seconds > 0 else 0.0
    return min(t.rate, over_all) if t.rate > 0 else over_all


def check_gaps(look: Look) -> Iterator[Finding]:
    """The longest silence, in action periods."""
    rules = look.rules.gap
    for name, stream, t in _timed(look):
        if name in look.senders or not look.period or not stream.needed:
            continue
        own = look.stream_period(stream)
        level, advice = rules.above(t.longest_gap / look.period - 1e-6) if t.gaps else Level.PASS, ""
        text = f"{name}: longest gap {_ms(t.longest_gap)} at {look.at(t.gap_start):.1f} s"
        if t.gaps:
            text += f", {t.gaps} beyond {_ms(look.rules.gap_periods * own)}"
        if level is not Level.PASS:
            most = rules.fail if level is Level.FAIL else rules.warn
            advice = look.remedy("cut the episode there or record it again")
            text += f", allowed are {_ms((most or 0.0) * look.period)}: {advice}"
        yield Finding("gaps", level, f"{text}.", name, t.longest_gap, advice)


def check_lost(look: Look) -> Iterator[Finding]:
    """Messages that gaps have swallowed."""
    rules = look.rules.lost
    for name, stream, t in _timed(look):
        if not (name.startswith("camera ") or name == "observations") or not stream.rate:
            continue
        share = t.lost / (t.count + t.lost)
        level, advice = rules.above(share), ""
        text = f"{name}: about {t.lost} of {t.count + t.lost} messages are missing ({100 * share:.1f} %)"
        if level is not Level.PASS:
            advice = look.remedy("look at cable, exposure time and drops")
            text += f", {100 * (rules.warn or 0.0):g} % are usual: {advice}"
        yield Finding("lost", level, f"{text}.", name, share, advice)


def check_jitter(look: Look) -> Iterator[Finding]:
    """How far times between stamps are from the period."""
    rules = look.rules.jitter
    for name, stream, t in _timed(look):
        period = look.stream_period(stream)
        if t.count < 3 or not period or not stream.needed or name == "joint states":
            continue
        if name in look.senders and not look.period:
            continue
        level, advice = rules.above(t.jitter[1] / period), ""
        p50, p95, p99 = (_ms(value) for value in t.jitter)
        text = f"{name}: jitter p50 {p50}, p95 {p95}, p99 {p99} at a period of {_ms(period)}"
        if level is not Level.PASS:
            advice = look.remedy("answer once a period" if name in look.senders else "stamp at the exposure")
            text += f", p95 should stay below {_ms((rules.warn or 0.0) * period)}: {advice}"
        yield Finding("jitter", level, f"{text}.", name, t.jitter[1], advice)


def check_order(look: Look) -> Iterator[Finding]:
    """Clocks do not run backwards, and stamps and recording times keep the same pace."""
    rules = look.rules
    yield from _between_senders(look)
    for name, stream, t in _timed(look):
        level = rules.backwards.above(t.backwards)
        if level is not Level.PASS:
            yield Finding(
                "order", level, subject=name, value=float(t.backwards),
                sentence=f"{name}: the clock goes backwards {t.backwards} time{'s' * (t.backwards > 1)}, "
                "allowed is never: was it set while recording?",
            )  # fmt: skip
        apart = abs(t.pace - 1.0)
        if stream.needed and t.pace and t.count > 20 and rules.clock_ratio.above(apart) is not Level.PASS:
            yield Finding(
                "order", rules.clock_ratio.above(apart), subject=name, value=t.pace,
                sentence=f"{name}: stamps run {t.pace:.2f} times as fast as the recording's clock, allowed "
                f"are {100 * (rules.clock_ratio.warn or 0.0):g} % more or less: "
                f"{look.remedy('synchronise the clocks')}.",
            )  # fmt: skip


def _between_senders(look: Look) -> Iterator[Finding]:
    """What several send is stamped by one clock when it leaves, whatever observation it answers."""
    if len(look.senders) < 2:
        return
    back = set_back([output.published for output in look.record.outputs], CLOCK_SET)
    level = look.rules.backwards.above(len(back))
    if level is not Level.PASS:
        yield Finding(
            "order", level, subject="actions", value=float(len(back)),
            sentence=f"actions: the clock of those who sent them goes backwards {len(back)} "
            f"time{'s' * (len(back) > 1)}, allowed is never: was it set while recording?",
        )  # fmt: skip


def check_duplicates(look: Look) -> Iterator[Finding]:
    """Messages that carry the stamp of the one before."""
    rules = look.rules.duplicates
    for name, _, t in _timed(look):
        if name in ("gripper", "safety status"):
            continue
        share = t.equal / t.count
        level = rules.above(share)
        if level is not Level.PASS:
            most = 100 * ((rules.fail if level is Level.FAIL else rules.warn) or 0.0)
            yield Finding(
                "duplicates", level, subject=name, value=share,
                sentence=f"{name}: {t.equal} of {t.count} messages carry the stamp of the one before "
                f"({100 * share:.1f} %), allowed are {most:g} %: does something publish twice?",
            )  # fmt: skip


def _timed(look: Look) -> Iterator[tuple[str, Stream, Timing]]:
    for name, found in look.timings.items():
        yield name, look.streams[name], found


def _percent(warn: float | None, fail: float | None, level: Level) -> str:
    return f"{100 * ((fail if level is Level.FAIL else warn) or 0.0):g} %"


def _ms(seconds: float) -> str:
    # Rounded to microseconds first: what is left of rounding stamps is no jitter.
    return f"{seconds:.2f} s" if seconds >= 1.0 else f"{round(1e3 * seconds, 3):.3g} ms"
