"""Does LeRobot read what was written?  `check_lerobot.py FOLDER EXPECTED.npz`, in LeRobot's environment."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def main(root: Path, expected: Path) -> None:
    """Raise `AssertionError` for whatever differs."""
    print("lerobot", version("lerobot"), "torch", version("torch"))
    name, want = f"local/{root.name}", np.load(expected, allow_pickle=False)
    data = LeRobotDataset(name, root=root, video_backend="pyav")
    items = [data[k] for k in range(len(data))]
    for key, ours in (("action", "actions"), ("observation.state", "states")):
        theirs = np.stack([item[key].numpy() for item in items])
        assert theirs.dtype == np.float32 and np.array_equal(theirs, want[ours]), key
    assert [item["task"] for item in items] == want["tasks"].tolist(), "tasks"
    assert [int(e["length"]) for e in data.meta.episodes] == want["lengths"].tolist(), "lengths"
    for key in data.meta.video_keys:
        worst = np.inf
        frames = want["image/" + key.removeprefix("observation.images.")]
        for item, ours in zip(items, frames, strict=True):
            theirs = 255.0 * item[key].numpy().transpose(1, 2, 0)
            error = float(np.mean((ours.astype(np.float32) - theirs) ** 2))
            worst = min(worst, 10.0 * np.log10(255.0**2 / max(error, 1e-6)))
        print(f"{key}: {len(items)} frames, worst PSNR against our own reader {worst:.1f} dB")
        assert worst > 40.0, key
    times = {"action": [k / data.fps for k in range(4)]}
    times |= {camera: [-1.0 / data.fps, 0.0] for camera in data.meta.camera_keys}
    windows = LeRobotDataset(name, root=root, video_backend="pyav", delta_timestamps=times)
    batch = next(iter(torch.utils.data.DataLoader(windows, batch_size=4, shuffle=True)))
    assert batch["action"].shape == (4, 4, want["actions"].shape[1])
    last = len(want["lengths"]) - 1
    alone = LeRobotDataset(name, root=root, episodes=[last], video_backend="pyav")
    assert len(alone) == want["lengths"][last]
    for key in ("action", "observation.state"):
        found = data.meta.stats[key]
        values = want["actions" if key == "action" else "states"].astype(float)
        assert np.allclose(found["mean"], values.mean(0), atol=1e-5), key
        assert np.allclose(found["std"], values.std(0), atol=1e-5), key
        assert np.allclose(found["max"], values.max(0)), key
    print(f"{root.name}: {len(want['lengths'])} episodes, {len(items)} steps: equal")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
