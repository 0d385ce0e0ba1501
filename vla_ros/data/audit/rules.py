"""Limits of the audit, each with its reason; a YAML may replace any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from vla_ros.bounds import quoted
from vla_ros.data.audit.finding import Level
from vla_ros.documents import parse_yaml
from vla_ros.errors import ConfigurationError, unknown


@dataclass(frozen=True)
class Bounds:
    """From where on a number is worth a remark, and from where on a failure; None: never."""

    warn: float | None
    fail: float | None

    def above(self, value: float) -> Level:
        """Level of a number that should be small."""
        if self.fail is not None and value > self.fail:
            return Level.FAIL
        return Level.WARN if self.warn is not None and value > self.warn else Level.PASS

    def below(self, value: float) -> Level:
        """Level of a number that should be large."""
        if self.fail is not None and value < self.fail:
            return Level.FAIL
        return Level.WARN if self.warn is not None and value < self.warn else Level.PASS


def _limit(
    warn: float | None, fail: float | None, unit: str, what: str, why: str, least: bool = False
) -> Any:
    return field(
        default=Bounds(warn, fail), metadata={"unit": unit, "what": what, "why": why, "least": least}
    )


def _measure(value: float, unit: str, what: str, why: str) -> Any:
    return field(default=value, metadata={"unit": unit, "what": what, "why": why})


@dataclass(frozen=True)
class AuditRules:
    """All limits; `Bounds` are judged, plain numbers say how something is measured."""

    # fmt: off
    rate: Bounds = _limit(
        0.95, 0.8, "of the nominal rate", "true rate of a needed stream",
        "a step a fifth late in the mean shows the policy a world that moves faster than the robot's", True,
    )
    gap: Bounds = _limit(
        1.0, 3.0, "action periods", "longest silence of a needed stream",
        "beyond one period a step sees the picture of the step before, beyond three it is blind",
    )
    jitter: Bounds = _limit(
        0.5, None, "of the stream's period", "p95 of |time between stamps - period| of cameras and actions",
        "at half a period two frames may change places among the steps",
    )
    lost: Bounds = _limit(
        0.01, None, "of the messages", "messages missing in gaps of cameras and observations",
        "a cable, a disk or a full queue; worth finding before the next fifty episodes",
    )
    duplicates: Bounds = _limit(
        0.0, 0.05, "of the messages", "messages with the stamp of the one before",
        "two publishers on one topic, or a driver that repeats itself",
    )
    repeated: Bounds = _limit(
        0.1, None, "of the frames", "frames equal to the one before while the joints move",
        "a camera slower than its stamps claim",
    )
    backwards: Bounds = _limit(
        None, 0.0, "times", "stamps, or recording times, that go backwards",
        "a clock was set while recording: what belongs together can no longer be told",
    )
    clock_ratio: Bounds = _limit(
        0.05, None, "of 1", "difference of pace between stamps and recording times",
        "stamps of a device whose clock is not the computer's",
    )
    camera_skew: Bounds = _limit(
        0.5, 1.0, "action periods", "p95 between the frames of one observation",
        "cameras that show different moments of one motion",
    )
    joint_skew: Bounds = _limit(
        0.25, 1.0, "action periods", "p95 between an observation and its joint state",
        "the state is an input like the picture; a fifth of a second at 0.3 m/s is 6 cm",
    )
    unpaired: Bounds = _limit(
        0.0, 0.1, "of the observations", "observations whose frame is not on the camera's topic",
        "a step takes its pixels there; without the frame it has none",
    )
    black: Bounds = _limit(
        0.0, 0.1, "of the frames", "black frames", "a covered lens or a camera that was still starting",
    )
    frozen: Bounds = _limit(
        0.0, 0.1, "of the time", "one picture for longer than `frozen_after` while the joints move",
        "a camera that has stopped; a policy learns to ignore it",
    )
    clipped: Bounds = _limit(
        0.01, 0.2, "of the steps", "steps with a component beyond the action space's clip or range",
        "the robot did less than the action says: action and motion disagree",
    )
    at_clip: Bounds = _limit(
        0.4, None, "of the steps", "steps with a component at the clip",
        "the person drives against the end of the device's scale: lower the scale or slow down",
    )
    limited: Bounds = _limit(
        0.25, None, "of the time", "time in LIMITED: the controller shaped or slowed the motion",
        "the robot lags behind the actions",
    )
    holding: Bounds = _limit(
        0.2, 0.8, "of the time", "time in HOLDING: no action was there to follow",
        "late or missing actions",
    )
    stopped: Bounds = _limit(
        0.0, 0.05, "of the time", "time in STOPPING, STOPPED or FAULT",
        "the robot stood while actions were recorded",
    )
    idle_start: Bounds = _limit(
        2.0, None, "s", "idle before the first motion", "a policy learns to wait, and may never begin",
    )
    idle_end: Bounds = _limit(
        2.0, None, "s", "idle after the last motion", "the end of the task is where the motion ends",
    )
    idle_longest: Bounds = _limit(
        3.0, None, "s", "longest idle stretch between motions",
        "the person was thinking: the picture does not show why",
    )
    idle_share: Bounds = _limit(
        0.4, 0.9, "of the time", "idle in all", "most of what is learnt would be standing still",
    )
    steps: Bounds = _limit(
        None, 10, "steps", "fewest steps", "shorter than one chunk of the usual policies: a false start",
        True,
    )
    seconds: Bounds = _limit(
        180.0, None, "s", "longest episode", "the end of the episode was probably forgotten",
    )
    missing_steps: Bounds = _limit(
        0.0, 0.05, "of the steps", "steps missing on the action grid",
        "every missing step is a jump of the targets",
    )
    missing_run: Bounds = _limit(
        None, 3.0, "action periods", "longest hole in the actions",
        "a hold or a stop of the robot lies inside",
    )
    double_steps: Bounds = _limit(
        0.0, 0.05, "of the steps", "two actions for one step", "two devices or two policies speak at once",
    )
    off_grid: Bounds = _limit(
        0.05, None, "of the steps", "actions further than `grid_tolerance` from the regular grid",
        "actions were made when they came, not when they were due",
    )
    gap_periods: float = _measure(
        3.0, "of the stream's period", "silence that counts as a gap of a stream",
        "one lost message is no gap",
    )
    grid_tolerance: float = _measure(
        0.1, "action periods", "distance from the grid that counts as off it",
        "a tenth is far below what is felt",
    )
    frozen_after: float = _measure(
        0.5, "s", "equal pictures for longer are frozen, if the joints move meanwhile",
        "cameras do stutter",
    )
    frozen_motion: float = _measure(
        0.05, "rad", "joint motion meanwhile that counts as moving", "as the ingester's screening",
    )
    black_level: float = _measure(
        8, "of 255", "a frame is black when no sampled value reaches this", "as the ingester's screening",
    )
    image_sampling: float = _measure(
        0.25, "s", "time between the compressed frames that are decoded to look for black",
        "decoding every frame would make the audit ten times slower",
    )
    idle_speed: float = _measure(
        0.02, "rad/s", "a joint slower than this stands", "encoders' noise is below it",
    )
    idle_motion: float = _measure(
        0.002, "rad", "joint motion within a step below which it stands, whatever the rate",
        "one count of the coarsest encoder (Dynamixel: 0.0015 rad)",
    )
    idle_gripper: float = _measure(
        0.001, "m", "change of the opening within a step below which the gripper stands",
        "noise of the usual grippers is below it",
    )
    gripper_motion: float = _measure(
        0.005, "m", "change of the opening that counts as using the gripper", "noise is below a millimetre",
    )
    # fmt: on

    def limits(self) -> Iterator[tuple[str, Bounds | float, Mapping[str, Any]]]:
        """(name, limit, what is said of it) of every rule, in the order of the documentation."""
        for item in fields(self):
            yield item.name, getattr(self, item.name), item.metadata


def table_row(name: str, limit: Bounds | float, said: Mapping[str, Any]) -> str:
    """A rule as a row of the documentation's tables."""
    if not isinstance(limit, Bounds):
        return f"| `{name}` | {said['what']} | {limit:g} {said['unit']} | {said['why']} |"
    sign = "below" if said["least"] else "above"
    warn, fail = ("" if v is None else f"{sign} {v:g}" for v in (limit.warn, limit.fail))
    return f"| `{name}` | {said['what']} | {said['unit']} | {warn} | {fail} | {said['why']} |"


def load_rules(path: Path) -> AuditRules:
    """Read a YAML of `name: {warn: w, fail: f}` or `name: number`; what is not named keeps its default.

    Raises `ConfigurationError`.
    """
    try:
        given = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"rules {path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"rules {path} are not valid YAML{line}.") from None
    if not isinstance(given, dict):
        raise ConfigurationError(f"rules {path} must map names of limits to values.")
    rules = AuditRules()
    known = {name: limit for name, limit, _ in rules.limits()}
    changed: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise ConfigurationError(unknown(f"rules {path}: limit", name, known))
        changed[name] = _read(known[name], value, f"rules {path}: '{name}'")
    return replace(rules, **changed)


def _read(default: Bounds | float, value: Any, where: str) -> Bounds | float:
    if isinstance(default, Bounds):
        if not isinstance(value, dict) or not value or set(value) - {"warn", "fail"}:
            raise ConfigurationError(f"{where} is {quoted(value)}, but takes 'warn' and 'fail'.")
        return replace(default, **{k: None if v is None else _number(v, where) for k, v in value.items()})
    return _number(value, where)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise ConfigurationError(f"{where} is {quoted(value)}, but must be a number from 0.")
    return float(value)
