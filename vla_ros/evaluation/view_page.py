"""The page of one episode of a data set: what the cameras saw, actions, states, labels, in one file."""

from __future__ import annotations

from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.actions import ActionSpace, get_action_space
from vla_ros.data.dataset import DatasetInfo
from vla_ros.data.episode import Episode
from vla_ros.data.frames import Frames
from vla_ros.errors import ContractError, DataError
from vla_ros.evaluation.page import cards, missing, page, section, strip, table
from vla_ros.evaluation.signal_plots import Shade, Signal, signals_figure, stretches_of
from vla_ros.types import Array, Image

PICTURES = 12
"""Pictures of a camera."""
HEIGHT = 144
"""Height of a picture [pixels]."""
TCP_NAMES = ("x [m]", "y [m]", "z [m]", "qx", "qy", "qz", "qw")


def view_page(episode: Episode, info: DatasetInfo, number: int) -> str:
    """The whole page of episode `number`; a camera that cannot be decoded is said, not raised."""
    rate = episode.rate or info.rate
    parts = [_facts(episode, rate), *_cameras(episode, rate), _actions(episode, rate), _states(episode, rate)]
    if "observation/tcp_pose" in episode.extra:
        poses = np.asarray(episode.extra["observation/tcp_pose"], np.float64)
        text = "Position and quaternion (x, y, z, w) in the robot's base frame."
        parts.append(section("Tool centre point", text, _rows(TCP_NAMES, poses, rate, _taken(episode, rate))))
    parts.append(_about(episode, info))
    title = f"Episode {number} of {info.name}"
    return page(title, episode.instruction or "no instruction", parts)


def action_space_of(episode: Episode) -> ActionSpace | None:
    """The action space that an episode names, if it is known and of the actions' dimension."""
    dimension = episode.actions.shape[1]
    try:
        space = get_action_space(episode.action_space, dimension - 1) if episode.action_space else None
    except ContractError:
        return None
    return space if space is not None and space.dimension == dimension else None


def action_labels(episode: Episode) -> list[str]:
    """Name and unit of every dimension of the actions."""
    dimension, space = episode.actions.shape[1], action_space_of(episode)
    names = list(episode.action_names) or (list(space.dimensions) if space is not None else [])
    if len(names) != dimension:
        return [f"action {k}" for k in range(dimension)]
    units = space.units if space is not None else ("",) * dimension
    return [f"{name} [{unit}]" if unit else name for name, unit in zip(names, units, strict=True)]


def state_labels(episode: Episode) -> list[str]:
    """Name of every dimension of the states."""
    dimension = episode.states.shape[1]
    names = list(episode.state_names)
    return names if len(names) == dimension else [f"state {k}" for k in range(dimension)]


def _facts(episode: Episode, rate: float) -> str:
    count = len(episode)
    taken = int(np.asarray(episode.extra.get("is_intervention", ())).astype(bool).sum())
    shown = [
        ("steps", str(count)),
        ("seconds", f"{count / rate:.1f}" if rate else "not known"),
        ("outcome", str(episode.metadata.get("outcome") or "not known")),
        ("steps by a person who took over", str(taken)),
    ]
    return cards(shown)


def _cameras(episode: Episode, rate: float) -> list[str]:
    if not episode.images:
        return [section("Cameras", "", missing("The episode has no images."))]
    parts = []
    for name, frames in sorted(episode.images.items(), key=lambda item: (item[0] != "primary", item[0])):
        height, width = frames.size
        text = f"{len(frames)} frames of {width} x {height} pixels."
        try:
            content = strip(pictures(frames, rate))
        except DataError as error:
            content = missing(str(error))
        parts.append(section(f"Camera {name}", text, content))
    return parts


def pictures(frames: Frames, rate: float) -> list[tuple[str, bytes]]:
    """Small pictures over the length of an episode, each with its time.  Raises `DataError`."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(PICTURES, len(frames))).round().astype(int))
    return [(f"{k / rate:.1f} s" if rate else f"step {k}", small_jpeg(frames.image(int(k)))) for k in chosen]


def small_jpeg(rgb: Image) -> bytes:
    """A picture of at most `HEIGHT` rows.  Raises `DataError`."""
    height, width = rgb.shape[:2]
    if height > HEIGHT:
        size = (max(1, round(width * HEIGHT / height)), HEIGHT)
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    done, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not done:
        raise DataError(f"a picture of {width} x {height} pixels cannot be encoded.")
    return bytes(jpeg.data)


def _actions(episode: Episode, rate: float) -> str:
    space = action_space_of(episode)
    text = f"{space.title}." if space is not None else f"Action space: {episode.action_space or 'not known'}."
    rows = _rows(action_labels(episode), episode.actions, rate, _taken(episode, rate), steps=True)
    return section("Actions", text, rows, long=True)


def _states(episode: Episode, rate: float) -> str:
    rows = _rows(state_labels(episode), episode.states, rate, _taken(episode, rate))
    return section("States", "As the data set has them.", rows, long=True)


def _taken(episode: Episode, rate: float) -> Shade:
    marked: NDArray[np.bool_] = np.asarray(episode.extra.get("is_intervention", ()), np.bool_).ravel()
    times = _times(len(marked), rate)
    return Shade("person took over", "two", stretches_of(times, marked, 1.0 / rate if rate else 1.0))


def _times(count: int, rate: float) -> Array:
    """Seconds, or numbers of steps where the rate is not known."""
    return np.arange(count) / (rate or 1.0)


def _rows(
    names: tuple[str, ...] | list[str], values: NDArray[Any], rate: float, taken: Shade, steps: bool = False
) -> str:
    if not len(values) or values.ndim != 2 or not values.shape[1]:
        return missing("The episode has none.")
    times, unit = _times(len(values), rate), "time [s]" if rate else "step"
    wide = np.asarray(values, np.float64)
    signals = [Signal(name, times, wide[:, k], steps=steps) for k, name in enumerate(names)]
    return signals_figure(signals, float(len(values) / (rate or 1.0)), [taken], ", ".join(names), unit)


def _about(episode: Episode, info: DatasetInfo) -> str:
    said = dict.fromkeys(episode.instructions)
    rows = [
        ["data set", f"{info.name} ({info.kind}), {info.path}"],
        ["source", episode.source],
        ["robot", info.robot or str(episode.metadata.get("robot") or "not known")],
        ["rate", f"{episode.rate or info.rate:g} Hz" if episode.rate or info.rate else "not known"],
        ["action space", episode.action_space or "not known"],
        ["instructions", "; ".join(said) or "none"],
        ["terminal", "yes" if len(episode) and bool(episode.is_terminal[-1]) else "no"],
        ["further features", ", ".join(sorted(episode.extra)) or "none"],
        *([str(key), str(value)[:200]] for key, value in sorted(episode.metadata.items())),
    ]
    contract = (
        f"<details><summary>contract</summary><pre>{escape(episode.contract)}</pre></details>"
        if episode.contract
        else missing("It carries no contract.")
    )
    return section("About", "", table(["", ""], rows, words=2), contract, long=True)
