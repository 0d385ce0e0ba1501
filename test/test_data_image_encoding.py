"""Images kept smaller: the loss that is reported is the loss there is, frames come back in any order."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from vla_ros.data.bag import bag_metadata, closing_metadata, read_bag
from vla_ros.data.bag_index import BagIndex
from vla_ros.data.frames import Frames
from vla_ros.data.image_encoding import H264Encoder, image_encoder, image_pixels, is_key_frame, psnr
from vla_ros.data.message_types import MessageTypes, time_fields
from vla_ros.data.recorded_topics import RecordedTopic
from vla_ros.data.recording import Recording
from vla_ros.errors import ConfigurationError, DataError

IMAGE = "sensor_msgs/msg/Image"
TOPIC = "/camera/primary/image_raw"
WIDTH, HEIGHT, FRAMES = 96, 64, 75
PERIOD = 33_333_333


def pictures(count: int = FRAMES) -> list[np.ndarray]:
    """A smooth scene that slides by."""
    rng = np.random.default_rng(3)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH + count, 3)).astype(np.uint8), (0, 0), 5)
    wide = cv2.normalize(wide, np.empty_like(wide), 10, 240, cv2.NORM_MINMAX)
    return [np.ascontiguousarray(wide[:, k : k + WIDTH]) for k in range(count)]


def stamp(k: int) -> int:
    return 5_000_000_000 + k * PERIOD


def raw_image(types: MessageTypes, k: int, rgb: np.ndarray, encoding: str = "rgb8") -> bytes:
    height, width = rgb.shape[:2]
    fields = {
        "header": {"stamp": time_fields(stamp(k)), "frame_id": "lens"}, "height": height, "width": width,
        "encoding": encoding, "step": rgb.size // height, "data": rgb.ravel(),
    }  # fmt: skip
    return types.serialize(types.create(IMAGE, **fields), IMAGE)


def record(path: Path, images: str, count: int = FRAMES) -> list[np.ndarray]:
    types, scene = MessageTypes(), pictures(count)
    recording = Recording(path, [RecordedTopic(TOPIC, IMAGE)], {"contract": "c"}, images=images)
    for k, rgb in enumerate(scene):
        recording.put(TOPIC, stamp(k), raw_image(types, k, rgb))
    recording.close()
    assert recording.error == "" and not recording.dropped and not recording.notes
    return scene


def frames_of(path: Path, topic: str, stamps: list[int]) -> Frames:
    return BagIndex(path, lambda name: False).frames(topic, stamps, "here")


@pytest.mark.parametrize(
    ("images", "suffix", "least"), [("raw", "", 99.0), ("jpeg", "/compressed", 35.0), ("h264", "/h264", 30.0)]
)
def test_frames_come_back_in_any_order(tmp_path: Path, images: str, suffix: str, least: float) -> None:
    scene = record(tmp_path / "bag", images)
    index = BagIndex(tmp_path / "bag", lambda topic: False)
    stamps = [place.stamp for place in index.images[TOPIC + suffix].places]
    assert stamps == [stamp(k) for k in range(FRAMES)] and set(index.images) == {TOPIC + suffix}
    frames = frames_of(tmp_path / "bag", TOPIC + suffix, stamps)
    assert len(frames) == FRAMES and frames.size == (HEIGHT, WIDTH)
    order = [*range(10), 70, 3, 74, 44, 45, 45, 0, 31]
    shown = {k: frames.image(k) for k in order}
    assert all(psnr(shown[k], scene[k]) >= least for k in order)
    # neighbours differ by less than this only where the codec shows the wrong frame
    assert all(psnr(shown[k], scene[k]) > psnr(shown[k], scene[k - 1]) for k in order if k)
    with pytest.raises(DataError, match=r"here, step 1: topic .* has no image with the stamp"):
        frames_of(tmp_path / "bag", TOPIC + suffix, [stamp(7), stamp(7) + 5])
    if images != "raw":
        loss = json.loads(closing_metadata(tmp_path / "bag")["image_loss"])[TOPIC + suffix]
        true = [psnr(frames.image(k), scene[k]) for k in range(FRAMES)]
        assert loss["frames"] >= 3 and min(true) - 0.1 <= loss["min_psnr"] <= loss["mean_psnr"] <= max(true)
        assert loss["mean_psnr"] == pytest.approx(np.mean(true), abs=2.0)
    assert bag_metadata(tmp_path / "bag")["contract"] == "c"


def test_video_is_as_foxglove_asks(tmp_path: Path) -> None:
    record(tmp_path / "bag", "h264")
    messages = [entry.message for entry in read_bag(tmp_path / "bag")]
    keys = [k for k, m in enumerate(messages) if is_key_frame(m.data.tobytes())]
    # the first frame that is at least one second younger
    assert keys == [0, 31, 62]
    assert {(m.format, m.frame_id) for m in messages} == {("h264", "lens")}
    assert all(m.data.tobytes().startswith((b"\x00\x00\x01", b"\x00\x00\x00\x01")) for m in messages)
    kinds = [{b & 0x1F for b in nal_heads(messages[k].data.tobytes())} for k in keys]
    assert all({7, 8, 5} <= kind for kind in kinds), "each key frame brings its parameter sets"


def nal_heads(data: bytes) -> list[int]:
    return [data[k + 3] for k in range(len(data) - 3) if data[k : k + 3] == b"\x00\x00\x01"]


@pytest.mark.parametrize("images", ["jpeg", "h264"])
def test_what_cannot_be_encoded_is_kept_raw(tmp_path: Path, images: str) -> None:
    types = MessageTypes()
    raw = raw_image(types, 0, np.arange(48, dtype=np.uint8).reshape(4, 12), "16UC1")
    recording = Recording(tmp_path / "bag", [RecordedTopic(TOPIC, IMAGE)], {}, images=images)
    recording.put(TOPIC, 1, raw)
    recording.close()
    assert "'16UC1' are not read" in recording.notes[TOPIC] and recording.error == ""
    assert [entry.raw for entry in read_bag(tmp_path / "bag", topics=[TOPIC])] == [raw]
    with pytest.raises(DataError, match="'16UC1' are not read; known are"):
        frames_of(tmp_path / "bag", TOPIC, [stamp(0)]).image(0)


def test_odd_sizes_and_wrong_options_are_said(tmp_path: Path) -> None:
    types = MessageTypes()
    with pytest.raises(DataError, match="even width and height"):
        H264Encoder(90).encode(raw_image(types, 0, np.zeros((5, 4, 3), np.uint8)), types)
    with pytest.raises(ConfigurationError, match="'webp' are unknown, known are raw, jpeg, h264"):
        image_encoder("webp", 90)
    with pytest.raises(ConfigurationError, match="quality of images is 0"):
        image_encoder("jpeg", 0)


@pytest.mark.parametrize(("encoding", "channels"), [("rgb8", 3), ("bgr8", 3), ("mono8", 1)])
def test_pixels_of_every_encoding_and_padded_rows(encoding: str, channels: int) -> None:
    types = MessageTypes()
    padded = np.random.default_rng(0).integers(0, 255, (4, 20)).astype(np.uint8)
    fields = {"height": 4, "width": 6, "encoding": encoding, "step": 20, "data": padded.ravel()}
    got = image_pixels(types.create(IMAGE, **fields))
    stored = padded[:, : 6 * channels].reshape(4, 6, channels)
    expected = {"rgb8": stored, "bgr8": stored[..., ::-1], "mono8": np.repeat(stored, 3, axis=-1)[..., :3]}
    np.testing.assert_array_equal(got, expected[encoding])
