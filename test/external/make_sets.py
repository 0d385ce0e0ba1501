"""The sets that the other checks read, and what must be found in them: `make_sets.py WORK`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

from vla_ros.data.conversion import Options, convert
from vla_ros.data.dataset import Dataset
from vla_ros.data.open import open_dataset
from vla_ros.lockstep.bulk import demonstrations
from vla_ros.lockstep.demonstrate import Order

KINDS = ("lerobot", "rlds")
BRIDGE = Path(__file__).resolve().parents[3] / "shared" / "data" / "bridge_v2_sample"


def expected(dataset: Dataset, path: Path) -> None:
    """Numbers of all steps, tasks, lengths, and all pictures as our own reader decodes them."""
    episodes = list(dataset)
    found = {
        "lengths": np.array([len(e) for e in episodes]),
        "actions": np.vstack([e.actions for e in episodes]).astype(np.float32),
        "states": np.vstack([e.states for e in episodes]).astype(np.float32),
        "is_first": np.concatenate([e.is_first for e in episodes]),
        "is_last": np.concatenate([e.is_last for e in episodes]),
        "tasks": np.array([text for e in episodes for text in e.instructions]),
    }
    for camera in episodes[0].images:
        frames = [e.image(camera, k) for e in episodes for k in range(len(e))]
        found[f"image/{camera}"] = np.stack(frames)
    np.savez(path, **found)


def main(work: Path) -> None:
    """Make everything anew: what an earlier checkout wrote says nothing of this one."""
    names = ("bags", "bridge_bags", *(f"{n}_{kind}" for n in ("scripted", "bridge") for kind in KINDS))
    for name in names:
        shutil.rmtree(work / name, ignore_errors=True)
    bags = work / "bags"
    list(demonstrations(Order("widowx", ("pick", "place"), 0), bags, 4, {}, 2))
    sources = {"scripted": (bags, Options())}
    if BRIDGE.is_dir():
        convert(open_dataset(BRIDGE), work / "bridge_bags", "bags", Options(rate=5.0))
        sources["bridge"] = (work / "bridge_bags", Options(accept_failed=True, group_size=10))
    else:
        print(f"the sample of BridgeData V2 is not at {BRIDGE}: left out")
    for name, (source, options) in sources.items():
        for kind in KINDS:
            target = work / f"{name}_{kind}"
            convert(open_dataset(source), target, kind, options)
            expected(open_dataset(target), work / f"{name}_{kind}.npz")
    before, after = open_dataset(bags), open_dataset(work / "scripted_rlds")
    print(f"made: {len(before)} scripted episodes, {sum(after.steps(k) for k in range(len(after)))} steps")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
