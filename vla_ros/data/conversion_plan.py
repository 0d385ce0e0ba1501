"""What a conversion must know of every episode before the first is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.data.contract_meaning import contract_meaning
from vla_ros.data.dataset import Dataset
from vla_ros.data.episode import Episode
from vla_ros.data.writing import Group
from vla_ros.errors import DataError

GROUP_STEPS, LEAST_STEPS = 2000, 200
"""Steps after which a file is full, where no other size is asked for: an eighth of all, within these bounds,
so that small sets keep several cores busy too."""
GROUP_EPISODES = 50


@dataclass(frozen=True)
class Look:
    """What one look at an episode tells; plain, so that it travels between processes."""

    source: str
    steps: int
    tasks: tuple[str, ...]
    outcome: str
    form: str
    """Names and shapes of everything in it, as JSON: equal for all episodes of a data set."""
    videos: str
    """Of frames that come from videos: what they must share to be copied into one; empty: not copied."""
    rounded: float
    """Largest change of an action or state by rounding to float32."""
    rate: float
    action_space: str
    contract: str


def look_at(episode: Episode) -> Look:
    """Judge one episode.  Raises `DataError` when it cannot be trained on: empty, or numbers not finite."""
    if len(episode) == 0:
        raise DataError(f"{episode.source} has no steps.")
    rounded = 0.0
    named = (
        ("action", episode.actions, episode.action_names),
        ("state", episode.states, episode.state_names),
    )
    for what, values, names in named:
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            step, column = (int(n) for n in bad[0])
            shown = f"'{names[column]}'" if column < len(names) else f"number {column}"
            raise DataError(
                f"{episode.source}: the {what} of step {step} is {values[step, column]} in {shown}; numbers "
                "must be finite."
            )
        if values.size:
            rounded = max(rounded, float(np.abs(values.astype(np.float32) - values).max()))
    return Look(
        source=episode.source,
        steps=len(episode),
        tasks=tuple(dict.fromkeys(episode.instructions)),
        outcome=str(episode.metadata.get("outcome", "")),
        form=_form(episode),
        videos=_videos(episode),
        rounded=rounded,
        rate=episode.rate,
        action_space=episode.action_space,
        contract=hashlib.sha256(contract_meaning(episode.contract).encode()).hexdigest()
        if episode.contract
        else "",
    )


def check_one_form(looks: Sequence[Look]) -> None:
    """Raise `DataError`, naming two episodes and what differs, unless all can lie in one data set."""
    first = looks[0]
    for look in looks[1:]:
        pairs = (
            ("contract", first.contract, look.contract),
            ("action space", first.action_space, look.action_space),
            ("rate", first.rate, look.rate),
        )
        for what, a, b in pairs:
            if a != b:
                shown = f": {a} and {b}" if what != "contract" else ""
                raise DataError(f"{first.source} and {look.source} differ in their {what}{shown}.")
        if first.form != look.form:
            raise DataError(
                f"{look.source} {_difference(json.loads(first.form), json.loads(look.form), first)}"
            )


def groups(looks: Sequence[Look], size: int | None, most_seconds: float, rate: float) -> tuple[Group, ...]:
    """Consecutive episodes that share a file: `size` of them, or as many as fill one.

    The parts do not depend on how many processes work on them, so that another number of them can go on.
    """
    enough = min(GROUP_STEPS, max(LEAST_STEPS, sum(look.steps for look in looks) // 8))
    parts: list[list[Look]] = []
    for look in looks:
        part = parts[-1] if parts else []
        steps = sum(other.steps for other in part) + look.steps
        full = len(part) >= (size or GROUP_EPISODES) or (size is None and steps > enough)
        too_long = rate > 0 and steps / rate > most_seconds
        if not part or full or too_long or look.videos != part[0].videos:
            parts.append([look])
        else:
            part.append(look)
    found, episodes, steps = [], 0, 0
    for index, part in enumerate(parts):
        lengths = tuple(look.steps for look in part)
        found.append(Group(index, len(parts), episodes, steps, lengths))
        episodes, steps = episodes + len(part), steps + sum(lengths)
    return tuple(found)


def fingerprint(paths: Iterable[Path]) -> str:
    """Digest of names, sizes and times of change of all files of a source; raises `DataError`."""
    digest = hashlib.sha256()
    try:
        for path in paths:
            for file in _files(Path(path)):
                state = file.stat()
                digest.update(f"{file} {state.st_size} {state.st_mtime_ns}\n".encode())
    except OSError as error:
        raise DataError(f"the source cannot be read: {error}.") from error
    return digest.hexdigest()


def plan_digest(looks: Sequence[Look], parts: Sequence[Group]) -> str:
    """Digest of what is to be written, in which order and parts."""
    document = [[asdict(look) for look in looks], [asdict(part) for part in parts]]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def checked(dataset: Dataset, indices: Sequence[int], looks: Sequence[Look]) -> Iterator[Episode]:
    """Read episodes that must be what they were when the plan was made.  Raises `DataError`."""
    for index, look in zip(indices, looks, strict=True):
        episode = dataset.episode(index)
        if len(episode) != look.steps or episode.source != look.source:
            raise DataError(
                f"{look.source} had {look.steps} steps when the conversion began and has {len(episode)} now: "
                "the source was changed."
            )
        yield episode


def _form(episode: Episode) -> str:
    form: dict[str, Any] = {
        "actions": list(episode.action_names) or episode.actions.shape[1],
        "states": list(episode.state_names) or episode.states.shape[1],
        "cameras": {name: list(episode.images[name].size) for name in sorted(episode.images)},
        "features": {
            name: f"{array.dtype} {list(array.shape[1:])}" for name, array in sorted(episode.extra.items())
        },
    }
    return json.dumps(form)


def _videos(episode: Episode) -> str:
    from vla_ros.data.lerobot.video import VideoFrames

    found = []
    for name in sorted(episode.images):
        frames = episode.images[name]
        if not isinstance(frames, VideoFrames) or not frames.copyable():
            return ""
        found.append(repr(frames.signature()))
    return hashlib.sha256("".join(found).encode()).hexdigest() if found else ""


def _difference(one: Mapping[str, Any], other: Mapping[str, Any], first: Look) -> str:
    for what in one:
        a, b = one[what], other[what]
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            word = {"cameras": "camera", "features": "feature"}[what]
            for name in a:
                if name not in b:
                    return f"lacks the {word} '{name}', which {first.source} has."
                if a[name] != b[name]:
                    return f"has the {word} '{name}' as {b[name]}, {first.source} as {a[name]}."
            extra = next(name for name in b if name not in a)
            return f"has the {word} '{extra}', which {first.source} lacks."
        return f"has the {what} {b}, {first.source} has {a}."
    return "differs."


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            if file.is_file() and not hidden:
                yield file
    else:
        yield path
