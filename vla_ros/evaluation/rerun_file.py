"""An episode as a Rerun recording (.rrd): images, curves, words and the tool's path on one time line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.data.encoded_image import is_png
from vla_ros.data.episode import Episode
from vla_ros.errors import DataError, MachineError
from vla_ros.evaluation.view_page import action_labels, state_labels

APPLICATION = "vla_ros"
BATCH = 32
"""Images that are held at a time."""
MISSING = "rerun-sdk is not installed, so no Rerun file was written: pip install 'vla-ros[view]' brings it."


def rerun_sdk() -> Any:
    """The module.  Raises `MachineError` when it is not installed, or too old to write columns."""
    try:
        import rerun
    except ImportError:
        raise MachineError(MISSING) from None
    if not hasattr(rerun, "Scalars") or not hasattr(rerun, "send_columns"):
        raise MachineError(
            f"rerun-sdk {getattr(rerun, '__version__', '')} is too old to write the Rerun file; 0.23 or "
            "newer is needed."
        )
    return rerun


def write_rerun(episode: Episode, path: Path, rate: float, name: str) -> None:
    """Write one episode as a new file; `rate` [Hz] of its steps, 0: the time line has steps only.

    Entities: `action/<dimension>`, `state/<dimension>`, `camera/<name>`, `instruction`, `outcome`,
    `intervention`, `tcp/path`, `tcp/point`.  Raises `DataError`, `MachineError`.
    """
    rr = rerun_sdk()
    partial = path.with_name(path.name + ".part")
    recording = rr.RecordingStream(APPLICATION, recording_id=name)
    try:
        try:
            recording.save(str(partial))
        except (OSError, RuntimeError) as error:
            raise DataError(f"{path} cannot be written: {error}.") from error
        try:
            _write(rr, recording, episode, rate)
            recording.flush()
        finally:
            recording.disconnect()
        try:
            partial.replace(path)
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)


def _write(rr: Any, recording: Any, episode: Episode, rate: float) -> None:
    def times(start: int, stop: int) -> list[Any]:
        steps = np.arange(start, stop)
        lines = [rr.TimeColumn("step", sequence=steps)]
        if rate:
            lines.append(rr.TimeColumn("time", duration=steps / rate))
        return lines

    def curve(entity: str, values: Any) -> None:
        numbers = np.asarray(values, np.float64).ravel()
        if len(numbers):
            recording.send_columns(
                entity, indexes=times(0, len(numbers)), columns=rr.Scalars.columns(scalars=numbers)
            )

    for kind, labels, values in (
        ("action", action_labels(episode), episode.actions),
        ("state", state_labels(episode), episode.states),
    ):
        for k, label in enumerate(labels):
            curve(f"{kind}/{entity_name(label)}", values[:, k])
    if "is_intervention" in episode.extra:
        curve("intervention", episode.extra["is_intervention"])
    for camera, frames in episode.images.items():
        for start in range(0, len(frames), BATCH):
            stop = min(start + BATCH, len(frames))
            blobs = [frames[k] for k in range(start, stop)]
            kinds = ["image/png" if is_png(blob) else "image/jpeg" for blob in blobs]
            recording.send_columns(
                f"camera/{entity_name(camera)}",
                indexes=times(start, stop),
                columns=rr.EncodedImage.columns(blob=blobs, media_type=kinds),
            )
    _words(rr, recording, episode, rate)
    if "observation/tcp_pose" in episode.extra:
        _path(rr, recording, np.asarray(episode.extra["observation/tcp_pose"], np.float64), times)


def _words(rr: Any, recording: Any, episode: Episode, rate: float) -> None:
    """The instruction whenever it changes, and what is known of the whole."""
    before: str | None = None
    for step, text in enumerate(episode.instructions):
        if text != before:
            recording.set_time("step", sequence=step)
            if rate:
                recording.set_time("time", duration=step / rate)
            recording.log("instruction", rr.TextDocument(text))
            before = text
    recording.reset_time()
    known = [f"source: {episode.source}", *(f"{k}: {v}" for k, v in sorted(episode.metadata.items()))]
    recording.log("about", rr.TextDocument("\n".join(known)), static=True)


def _path(rr: Any, recording: Any, poses: Any, times: Any) -> None:
    """The whole path in space (static) and where the tool is at each step."""
    if not len(poses):
        return
    recording.log("tcp", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    recording.log("tcp/path", rr.LineStrips3D([poses[:, :3]]), static=True)
    recording.send_columns(
        "tcp/point",
        indexes=times(0, len(poses)),
        columns=rr.Points3D.columns(positions=poses[:, :3], radii=np.full(len(poses), 0.01)),
    )


def entity_name(label: str) -> str:
    """A label without its unit, as one part of an entity's path."""
    return label.split(" [", 1)[0].strip().replace("/", "_").replace(" ", "_") or "_"
