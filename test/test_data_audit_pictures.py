"""What the audit sees in frames of every encoding."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from vla_ros.data.audit.pictures import KEPT, CameraWatch
from vla_ros.data.audit.record import CameraRecord, Stream
from vla_ros.data.audit.rules import AuditRules

FRAME = 66_666_667
RNG = np.random.default_rng(0)
WIDE = cv2.GaussianBlur(RNG.integers(0, 255, (96, 400, 3)).astype(np.uint8), (0, 0), 3)
WIDE = cv2.normalize(WIDE, np.empty_like(WIDE), 20, 230, cv2.NORM_MINMAX)


def slide(k: int) -> np.ndarray:
    return np.ascontiguousarray(WIDE[:, 2 * k : 2 * k + 128])


def watched(messages: list[Any], pictures: bool = False) -> CameraRecord:
    record = CameraRecord(Stream("camera a", "/a", 15.0))
    watch = CameraWatch(record, AuditRules(), pictures)
    for k, message in enumerate(messages):
        watch.take(message, k * FRAME, k * FRAME)
    return record


def raw(pixels: np.ndarray, encoding: str = "rgb8", step: int = 0) -> Any:
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    padded = np.zeros((height, max(step, rows.shape[1])), np.uint8)
    padded[:, : rows.shape[1]] = rows
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, step=padded.shape[1], data=padded.ravel()
    )


def h264(pictures: list[np.ndarray], options: dict[str, str], interval: int) -> list[Any]:
    av = pytest.importorskip("av")
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = pictures[0].shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.gop_size = "yuv420p", Fraction(1, 15), interval
    encoder.options = {"preset": "veryfast", "bf": "0", "crf": "23", **options}
    found = []
    for k, pixels in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts = k
        found += encoder.encode(frame)
    found += encoder.encode(None)
    return [SimpleNamespace(format="h264", data=np.frombuffer(bytes(packet), np.uint8)) for packet in found]


@pytest.mark.parametrize("tune", [{}, {"tune": "zerolatency"}])
def test_a_frozen_stretch_of_h264_is_found_to_one_interval(tune: dict[str, str]) -> None:
    interval = 10
    pictures = [slide(k) for k in range(40)] + [slide(40)] * 50 + [slide(k) for k in range(40, 80)]
    record = watched(h264(pictures, tune, interval))
    equal = np.array(record.equal)
    assert len(equal) == 130 and equal.sum() == pytest.approx(50, abs=interval)
    assert equal[:41].sum() == 0 and equal[91 + interval :].sum() == 0
    assert len(record.looked) == 13 and not any(record.black) and set(record.sizes) == {(128, 96)}


def test_black_h264_and_what_is_none() -> None:
    pictures = [slide(0)] * 20 + [np.zeros((96, 128, 3), np.uint8)] * 20
    record = watched(h264(pictures, {}, 10))
    assert list(record.black) == [0, 0, 1, 1]
    broken = SimpleNamespace(format="h264", data=np.frombuffer(b"\x00\x00\x00\x01\x65junk", np.uint8))
    record = watched([broken])
    assert len(record.looked) == 0 and record.undecodable + len(record.black) <= 1


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "mono8"])
def test_raw_encodings_and_padded_rows(encoding: str) -> None:
    channels = {"rgba8": 4, "mono8": 1}.get(encoding, 3)
    picture = np.full((16, 20, channels), 100, np.uint8)
    picture[..., 0] = 200
    record = watched([raw(picture, encoding, step=20 * channels + 7)], pictures=True)
    assert list(record.black) == [0] and set(record.sizes) == {(20, 16)} and not record.undecodable
    seen = cv2.imdecode(np.frombuffer(record.thumbnails[0].jpeg, np.uint8), cv2.IMREAD_COLOR).mean(
        axis=(0, 1)
    )
    red, blue = {"rgb8": (200, 100), "rgba8": (200, 100), "bgr8": (100, 200), "mono8": (200, 200)}[encoding]
    assert seen[2] == pytest.approx(red, abs=4) and seen[0] == pytest.approx(blue, abs=4)


def test_frames_that_cannot_be_read_are_counted() -> None:
    record = watched([raw(slide(0), "yuv422"), raw(slide(1))])
    assert record.undecodable == 1 and "yuv422" in record.trouble and len(record.looked) == 1
    short = raw(slide(0))
    short.data = short.data[:100]
    assert watched([short]).undecodable == 1


@pytest.mark.parametrize("count", [1, 5, 25, 400, 3000])
def test_the_strip_stays_small_and_even(count: int) -> None:
    record = watched([raw(slide(0)[:16, :16])] * count, pictures=True)
    kept = record.thumbnails
    assert 1 <= len(kept) <= KEPT and kept[0].stamp == 0
    assert [t.stamp for t in kept] == sorted(t.stamp for t in kept)
    if count >= 25:
        # Evenly over the whole time: no gap is longer than a fifth of it.
        assert max(np.diff([*(t.stamp for t in kept), count * FRAME])) < count * FRAME / 5 + 4 * FRAME
