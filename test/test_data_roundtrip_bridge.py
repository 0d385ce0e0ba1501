"""The real BridgeData V2 sample: RLDS to bags and back, equal to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros.data.conversion import Options, convert
from vla_ros.data.data_hash import data_hash
from vla_ros.data.open import open_dataset
from vla_ros.data.rlds_features import load_features
from vla_ros.data.tf_example import Value, parse_example
from vla_ros.data.tfrecord import read_records

SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "bridge_v2_sample"


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no BridgeData V2 sample here")
def test_bridge_survives_bags(tmp_path: Path) -> None:
    source = open_dataset(SAMPLE)
    convert(source, tmp_path / "bags", "bags", Options(rate=5.0, workers=1))
    bags = open_dataset(tmp_path / "bags")
    options = Options(workers=1, accept_failed=True, group_size=10)
    convert(bags, tmp_path / "rlds", "rlds", options)
    before, after = _examples(SAMPLE), _examples(tmp_path / "rlds")
    assert len(before) == len(after) == 25
    for one, other in zip(before, after, strict=True):
        assert set(one) == set(other)
        for name, value in one.items():
            assert _bits(value) == _bits(other[name]), name
    assert _forms(SAMPLE) == _forms(tmp_path / "rlds")
    assert data_hash(source) == data_hash(bags) == data_hash(open_dataset(tmp_path / "rlds"))
    ours = json.loads((tmp_path / "rlds" / "vla_ros.json").read_text())
    assert ours["data_hash"] == data_hash(source)
    assert ours["rate"] == 5.0


def _examples(folder: Path) -> list[dict[str, Value]]:
    shards = sorted(path for path in folder.iterdir() if "tfrecord" in path.name)
    return [parse_example(record.data) for shard in shards for record in read_records(shard)]


def _bits(value: Value) -> Any:
    return value if isinstance(value, list) else (value.dtype, np.asarray(value).tobytes())


def _forms(folder: Path) -> set[tuple[Any, ...]]:
    return {(f.name, f.kind, f.dtype, f.shape, f.in_steps) for f in load_features(folder / "features.json")}
