"""Does TensorFlow Datasets read what was written?  `check_tfds.py FOLDER EXPECTED.npz`."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds


def main(folder: Path, expected: Path) -> None:
    """Raise `AssertionError` for whatever differs."""
    print("tensorflow-datasets", version("tensorflow-datasets"), "tensorflow", tf.__version__)
    want = np.load(expected, allow_pickle=False)
    builder = tfds.builder_from_directory(str(folder))
    split = next(iter(builder.info.splits))
    cameras = [key.removeprefix("image/") for key in want.files if key.startswith("image/")]

    # step by step, everything decoded
    rows: dict[str, list[np.ndarray]] = {"actions": [], "states": []}
    tasks, worst, place = [], np.inf, 0
    lengths = []
    for episode in builder.as_dataset(split=split):
        begun = place
        for step in episode["steps"].as_numpy_iterator():
            rows["actions"].append(step["action"])
            rows["states"].append(step["observation"]["state"])
            tasks.append(step["language_instruction"].decode())
            for flag in ("is_first", "is_last"):
                assert step[flag] == want[flag][place], f"{flag} of step {place}"
            for camera in cameras:
                theirs = step["observation"][camera]
                error = float(np.mean((theirs.astype(float) - want[f"image/{camera}"][place]) ** 2))
                worst = min(worst, 10.0 * np.log10(255.0**2 / max(error, 1e-6)))
            place += 1
        lengths.append(place - begun)
    order = _order(lengths, rows["actions"], want)
    assert order == list(range(len(lengths))), f"episodes come in another order: {order}"
    for key in rows:
        assert np.array_equal(np.stack(rows[key]).astype(np.float32), want[key]), key
    assert tasks == want["tasks"].tolist(), "tasks"
    # two decoders of JPEG differ in how they widen the halved colours, most on 64 x 64 pixels
    assert worst > 35.0, worst
    print(
        f"{folder.name}: {len(lengths)} episodes, {place} steps: equal; pictures' worst PSNR {worst:.1f} dB"
    )

    # whole trajectories, pictures still encoded: the read of Octo's and OpenVLA's loaders
    skipped = builder.as_dataset(split=split, decoders={"steps": tfds.decode.SkipDecoding()})
    place = 0
    for trajectory, length in zip(skipped, lengths, strict=True):
        steps = trajectory["steps"]
        assert np.array_equal(
            steps["action"].numpy().astype(np.float32), want["actions"][place : place + length]
        )
        assert steps["language_instruction"].dtype == tf.string
        for camera in cameras:
            encoded = steps["observation"][camera]
            assert encoded.dtype == tf.string and encoded.shape == (length,), camera
            image = tf.io.decode_image(encoded[0], expand_animations=False, dtype=tf.uint8).numpy()
            error = float(np.mean((image.astype(float) - want[f"image/{camera}"][place]) ** 2))
            assert error < 255.0**2 / 10**3.5, camera
        place += length
    print(f"{folder.name}: with SkipDecoding {len(lengths)} trajectories, pictures decode afterwards")


def _order(lengths: list[int], actions: list[np.ndarray], want: np.lib.npyio.NpzFile) -> list[int]:
    """Which expected episode each is."""
    starts = np.concatenate([[0], np.cumsum(want["lengths"])])
    mine = np.concatenate([[0], np.cumsum(lengths)])
    found = []
    for k, length in enumerate(lengths):
        said = np.stack(actions[mine[k] : mine[k + 1]]).astype(np.float32)
        found.append(
            next(
                (
                    n
                    for n, known in enumerate(want["lengths"])
                    if known == length and np.array_equal(said, want["actions"][starts[n] : starts[n + 1]])
                ),
                -1,
            )
        )
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
