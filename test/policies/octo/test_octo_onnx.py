"""The exported model in ONNX Runtime: the same answers, without torch; int8 near to them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from octo_checkpoint import config_json, write_checkpoint
from PIL import Image as Pillow

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from test_octo_policy import CAMERAS, ROBOT, answers, observation, ready  # noqa: E402

from vla_ros.errors import PolicyError  # noqa: E402
from vla_ros.policies.base import ActionPrefix  # noqa: E402
from vla_ros.policies.octo import make_octo  # noqa: E402
from vla_ros.policies.octo.config import read_config  # noqa: E402
from vla_ros.policies.octo.export import export_octo  # noqa: E402
from vla_ros.policies.octo.onnx_engine import OnnxEngine  # noqa: E402
from vla_ros.types import ActionKind  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: Any) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("octo"))


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: Any) -> Path:
    return export_octo(str(checkpoint), tmp_path_factory.mktemp("onnx"), cameras=("primary", "wrist"))


BOTH: dict[str, Any] = {"wrist_camera": CAMERAS[1]}


def test_the_same_answers(checkpoint: Path, exported: Path) -> None:
    expected = answers(ready(checkpoint, **BOTH), 3, CAMERAS[:2])
    found = answers(ready(exported, runtime="onnx", threads=1, **BOTH), 3, CAMERAS[:2])
    assert np.abs(found - expected).max() < 1e-3
    expected = answers(ready(checkpoint, **BOTH), 2)
    assert np.abs(answers(ready(exported, runtime="onnx", threads=1, **BOTH), 2) - expected).max() < 1e-3


def test_goals_and_prefixes(checkpoint: Path, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "goal.png"
    Pillow.fromarray(np.random.default_rng(2).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    pose = observation(0).tcp_pose
    target = np.concatenate([pose.position + 0.01, pose.quaternion])[None]
    prefix = ActionPrefix(ActionKind.CARTESIAN_ABSOLUTE, np.array([0.2]), target, np.array([0.02]))
    found = []
    for folder, options in ((checkpoint, {}), (exported, {"runtime": "onnx", "threads": 1})):
        policy = ready(folder, "", goal_image=str(path), **BOTH, **options)
        found.append(policy.infer_after(observation(0, CAMERAS[:2]), prefix).values)
    assert np.abs(found[0] - found[1]).max() < 1e-3


def test_no_torch_is_imported(exported: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from vla_ros.policies.registry import make_policy
from vla_ros.robots import load_robot
from vla_ros.types import CameraImage, JointState, Observation, Pose
robot = load_robot("panda")
camera, wrist = list(robot.cameras)[:2]
options = dict(runtime="onnx", wrist_camera=wrist, threads=1)
policy = make_policy("octo", robot, checkpoint={str(exported)!r}, **options)
policy.load()
policy.reset("lift the red block")
image = CameraImage(1, np.zeros((20, 30, 3), np.uint8))
pose = Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
joints = JointState(1, robot.home, robot.home, robot.home)
output = policy.infer(Observation(1, 0, {{camera: image}}, joints, 0.04, pose))
assert output.values.shape == (4, 7)
print(sorted(name for name in ("torch", "transformers", "onnx") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_int8_is_near(checkpoint: Path, exported: Path, tmp_path: Path) -> None:
    quantized = export_octo(str(checkpoint), tmp_path, "int8", cameras=("primary", "wrist"))
    config = read_config(quantized / "config.json")
    random = np.random.default_rng(0)
    images = {"primary": random.integers(0, 256, (48, 48, 3), np.uint8)}
    images["wrist"] = random.integers(0, 256, (32, 32, 3), np.uint8)
    embeddings = []
    for folder, precision in ((exported, "fp32"), (quantized, "int8")):
        engine = OnnxEngine(folder, config, ("primary", "wrist"), 2, "cpu", precision, 1)
        ids = np.arange(3, 19)[None]
        given = dict(zip(("task", "shown"), engine.instruction(ids, np.ones_like(ids), True), strict=True))
        for name, image in images.items():
            given[f"frames_{name}"] = np.stack([engine.frame(name, image, None)] * 2)[None]
            given[f"mask_{name}"] = np.ones((1, 2), bool)
        embeddings.append(engine._run(engine._observe, given))
    away = np.linalg.norm(embeddings[1] - embeddings[0]) / np.linalg.norm(embeddings[0])
    assert 0.0 < away < 0.05
    content = (quantized / "onnx" / "observe.onnx").read_bytes()
    assert b"MatMulInteger" in content or b"DynamicQuantizeMatMul" in content
    values = answers(ready(quantized, runtime="onnx", precision="int8", threads=1, **BOTH), 2, CAMERAS[:2])
    assert np.isfinite(values).all() and np.abs(values).max() <= 5.0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "int8", **BOTH}, "was exported in fp32, but int8 is asked for"),
        ({}, "exported for 2 frames of primary, wrist, but 2 of primary are asked for"),
        ({"window": 1, **BOTH}, "2 frames of primary, wrist, but 1 of"),
        ({"device": "tpu", **BOTH}, "must be auto, cpu, cuda, tensorrt"),
        pytest.param(
            {"device": "cuda", **BOTH},
            "has no CUDAExecutionProvider, only what cpu needs",
            marks=pytest.mark.skipif(
                "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="it has one here"
            ),
        ),
        pytest.param(
            {"device": "tensorrt", **BOTH},
            "has no TensorrtExecutionProvider",
            marks=pytest.mark.skipif(
                "TensorrtExecutionProvider" in onnxruntime.get_available_providers(), reason="it has one here"
            ),
        ),
    ],
)
def test_what_it_was_not_exported_for(exported: Path, options: Any, sentence: str) -> None:
    policy = make_octo(ROBOT, checkpoint=str(exported), runtime="onnx", **options)
    with pytest.raises(PolicyError, match=sentence):
        policy.load()


def test_exports_that_cannot_be(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="fp32 or int8, but precision is 'int4'"):
        export_octo(str(checkpoint), tmp_path, "int4")
    with pytest.raises(PolicyError, match=r"to export are \['eye'\], but the model has primary, wrist"):
        export_octo(str(checkpoint), tmp_path, cameras=("eye",))
    (tmp_path / "file").write_text("")
    with pytest.raises(PolicyError, match="cannot be made"):
        export_octo(str(checkpoint), tmp_path / "file")


def test_damaged_exports(checkpoint: Path, tmp_path: Path) -> None:
    folder = export_octo(str(checkpoint), tmp_path)
    graph, description = folder / "onnx" / "observe.onnx", folder / "onnx" / "description.json"
    content, text = graph.read_bytes(), description.read_text()
    graph.write_bytes(content[: len(content) // 2])
    with pytest.raises(PolicyError, match="observe.onnx cannot be loaded by ONNX Runtime"):
        ready(folder, runtime="onnx")
    graph.unlink()
    with pytest.raises(PolicyError, match="observe.onnx is missing"):
        ready(folder, runtime="onnx")
    for broken in ("{", "[]", "{}", json.dumps({**json.loads(text), "cameras": {"primary": [1]}})):
        description.write_text(broken)
        with pytest.raises(PolicyError, match="description"):
            ready(folder, runtime="onnx")


def test_a_model_that_takes_no_instruction(tmp_path: Path) -> None:
    spec = config_json(task_tokenizers={})
    folder = write_checkpoint(tmp_path / "original", spec, without="task_")
    exported = export_octo(str(folder), tmp_path / "exported")
    assert not (exported / "onnx" / "language.onnx").exists()
    expected = answers(ready(folder, ""), 2)
    assert np.abs(answers(ready(exported, "", runtime="onnx", threads=1), 2) - expected).max() < 1e-3
    assert np.array_equal(answers(ready(folder, "lift"), 2), expected)


def test_a_window_of_one_and_the_oldest_attention(tmp_path: Path) -> None:
    spec = config_json(use_correct_attention=False, repeat_task_tokens=False)
    folder = write_checkpoint(tmp_path / "original", spec)
    exported = export_octo(str(folder), tmp_path / "exported", window=1)
    expected = answers(ready(folder, window=1), 2)
    found = answers(ready(exported, runtime="onnx", threads=1, window=1), 2)
    assert np.abs(found - expected).max() < 1e-3
