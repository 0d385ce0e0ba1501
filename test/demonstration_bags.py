"""Small bags of demonstrations, written for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vla_ros.contract import load_contract
from vla_ros.data.bag import BagWriter
from vla_ros.data.image_encoding import image_encoder
from vla_ros.data.message_types import time_fields

START = 1_000_000_000_000
PERIOD = 200_000_000
CONTRACT = load_contract("widowx")
PERSON, POLICY = 1, 0


def picture(shade: int, camera: Any) -> np.ndarray:
    """One shade, so that a frame tells its number even after compression."""
    return np.full((camera.height, camera.width, 3), shade % 256, np.uint8)


def write_demonstration(
    path: Path,
    steps: int = 5,
    images: str = "jpeg",
    outcome: int = 2,
    contract: Any = None,
    text: str | None = None,
    outputs: list[dict[str, Any]] | None = None,
    lacks: tuple[str, ...] = (),
    observation_offset: int = -30_000_000,
    episode_id: str = "one",
    change: Any = None,
    discard: bool = False,
) -> np.ndarray:
    """One episode; returns its actions (steps, 7).  Frame k of every camera has the shade 20 + 10 k."""
    contract = contract or CONTRACT
    rng = np.random.default_rng(3)
    actions = rng.uniform(-0.02, 0.02, (steps, 7)).astype(np.float32).astype(float)
    actions[:, 6] = 1.0
    dof = contract.robot.dof
    metadata = {"contract": contract.to_yaml() if text is None else text}
    with BagWriter(path, metadata) as writer:
        types = writer.types

        def put(topic: str, kind: str, stamp: int, **fields: Any) -> None:
            if topic in lacks:
                return
            if change is not None:
                fields = change(topic, stamp, fields)
            writer.write(topic, kind, stamp, types.create(kind, **fields))

        def status(stamp: int, value: int) -> None:
            put(
                "/vla/episode_status", "vla_ros/EpisodeStatus", stamp,
                header={"stamp": time_fields(stamp)}, episode_id=episode_id, task="pick",
                instruction="pick it up", outcome=value,
            )  # fmt: skip

        status(START - PERIOD, 1)
        encoders = {camera: image_encoder(images, 95) for camera in contract.cameras}
        for k in range(steps + 1):
            stamp = START + k * PERIOD + observation_offset
            for name, camera in contract.cameras.items():
                pixels = picture(20 + 10 * k, camera)
                raw = types.create(
                    "sensor_msgs/Image", header={"stamp": time_fields(stamp), "frame_id": name},
                    height=camera.height, width=camera.width, encoding="rgb8", step=3 * camera.width,
                    data=pixels.reshape(-1),
                )  # fmt: skip
                encoder = encoders[name]
                data = types.serialize(raw, "sensor_msgs/msg/Image")
                if camera.topic in lacks:
                    continue
                if encoder is None:
                    writer.write(camera.topic, "sensor_msgs/Image", stamp, data)
                else:
                    topic, kind = camera.topic + encoder.suffix, encoder.type_name
                    writer.write(topic, kind, stamp, encoder.encode(data, types))
            put(
                "/vla/observation", "vla_ros/Observation", stamp,
                header={"stamp": time_fields(stamp)}, sequence=k, camera_names=list(contract.cameras),
                images=[{"header": {"stamp": time_fields(stamp)}} for _ in contract.cameras],
                joint_state={"position": np.arange(dof) + 0.1 * k}, gripper_width=0.05,
                tcp_pose={
                    "position": {"x": 0.1 * k, "y": 0.0, "z": 0.2},
                    "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0},
                },
            )  # fmt: skip
        default = [
            {"stamp": START + k * PERIOD, "values": actions[k], "source": PERSON} for k in range(steps)
        ]
        for k, output in enumerate(default if outputs is None else outputs):
            stamp = output["stamp"]
            values = np.asarray(output.get("values", ()), float)
            put(
                "/vla/policy_output", "vla_ros/PolicyOutput", output.get("published", stamp),
                header={"stamp": time_fields(stamp)}, sequence=k, policy="test",
                source=output.get("source", PERSON), action_space=contract.action_space.name,
                normalization_key=output.get("key", ""), horizon=output.get("horizon", 1), dimension=7,
                values=values.reshape(-1), instruction=output.get("instruction", ""),
                published=time_fields(output.get("published", stamp)),
            )  # fmt: skip
            if "chunk" in output:
                put("/vla/action_chunk", "vla_ros/ActionChunk", stamp, sequence=k,
                    header={"stamp": time_fields(stamp)}, source=output.get("source", PERSON),
                    **output["chunk"])  # fmt: skip
        if outcome:
            status(START + steps * PERIOD + 1, outcome)
        if discard:
            status(START + steps * PERIOD + 2, 5)
    return actions


def jpeg(shade: int, height: int = 16, width: int = 24) -> bytes:
    """One small JPEG."""
    done, data = cv2.imencode(".jpg", np.full((height, width, 3), shade % 256, np.uint8))
    assert done
    return bytes(data)
