"""JPEGs to video without a way through RGB: as good as the long way, to which others are left."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

pytest.importorskip("av", reason="PyAV is not installed")

from vla_ros.data.image_encoding import psnr
from vla_ros.data.lerobot.stats import ImageStats, thinned, thinned_planes
from vla_ros.data.lerobot.video import JpegPlanes, VideoFrames, VideoWriter

SIZE, RATE, FRAMES = (96, 128), 10.0, 12


def pictures() -> list[np.ndarray]:
    """RGB, colourful and smooth, with black and white in them."""
    rng = np.random.default_rng(4)
    height, width = SIZE
    wide = cv2.GaussianBlur(rng.integers(0, 255, (height, width + FRAMES, 3)).astype(np.uint8), (0, 0), 6)
    wide = cv2.normalize(wide, np.empty_like(wide), 0, 255, cv2.NORM_MINMAX)
    return [np.ascontiguousarray(wide[:, k : k + width]) for k in range(FRAMES)]


def jpeg(rgb: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(rgb).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def read_back(path: Path) -> list[np.ndarray]:
    frames = VideoFrames(path, [k / RATE for k in range(FRAMES)], SIZE, RATE, "here")
    try:
        return [frames.image(k).copy() for k in range(FRAMES)]
    finally:
        frames.close()


def test_the_short_way_is_as_good_as_the_long_one(tmp_path: Path) -> None:
    scene = pictures()
    with VideoWriter(tmp_path / "short.mp4", SIZE, RATE) as short:
        for k, rgb in enumerate(scene):
            assert short.write_jpeg(jpeg(rgb, subsampling="4:2:0"), k == 0) is not None
        assert short.frames == FRAMES
    with VideoWriter(tmp_path / "long.mp4", SIZE, RATE) as long:
        for k, rgb in enumerate(scene):
            data = np.frombuffer(jpeg(rgb, subsampling="4:2:0"), np.uint8)
            long.write(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8), k == 0)
    found = zip(scene, read_back(tmp_path / "short.mp4"), read_back(tmp_path / "long.mp4"), strict=True)
    for rgb, one, other in found:
        assert psnr(one, rgb) > 33.0 and psnr(one, rgb) > psnr(other, rgb) - 1.0
        # the whole range of light: black and white are where they were
        assert abs(float(one.mean()) - float(other.mean())) < 0.5


@pytest.mark.parametrize("what", ["4:4:4", "grey", "turned", "png", "cut", "nothing", "odd", "other size"])
def test_what_cannot_go_it_is_left(tmp_path: Path, what: str) -> None:
    rgb = pictures()[0]
    turned = Pillow.Exif()
    turned[0x0112] = 6
    data = {
        "4:4:4": lambda: jpeg(rgb, subsampling="4:4:4"),
        "grey": lambda: jpeg(rgb[..., 0]),
        "turned": lambda: jpeg(rgb, subsampling="4:2:0", exif=turned),
        "png": lambda: cv2.imencode(".png", rgb)[1].tobytes(),
        "cut": lambda: jpeg(rgb, subsampling="4:2:0")[:12],
        "nothing": lambda: b"",
        "odd": lambda: jpeg(rgb[:95], subsampling="4:2:0"),
        "other size": lambda: jpeg(rgb[:48], subsampling="4:2:0"),
    }[what]()
    with VideoWriter(tmp_path / "video.mp4", SIZE, RATE) as video:
        assert video.write_jpeg(data, True) is None and video.frames == 0
        # and the next one goes all the same
        assert video.write_jpeg(jpeg(rgb, subsampling="4:2:0"), True) is not None


@pytest.mark.parametrize("size", [(480, 640), (96, 128), (450, 500)])
def test_statistics_of_planes_are_those_of_the_picture(size: tuple[int, int]) -> None:
    """By twos, of every pixel, and by threes: what is thinned differs, not what it says."""
    rng = np.random.default_rng(5)
    rgb = cv2.GaussianBlur(rng.integers(0, 255, (*size, 3)).astype(np.uint8), (0, 0), 8)
    rgb = cv2.normalize(rgb, np.empty_like(rgb), 5, 250, cv2.NORM_MINMAX)
    data = jpeg(rgb, subsampling="4:2:0")
    planes = JpegPlanes().planes(data)
    assert planes is not None
    of_picture, of_planes = ImageStats(), ImageStats()
    shown = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    of_picture.add(thinned(np.asarray(shown, np.uint8)))
    of_planes.add(thinned_planes(planes))
    assert thinned_planes(planes).shape == thinned(rgb).shape
    for name, values in of_picture.stats().items():
        np.testing.assert_allclose(of_planes.stats()[name], values, atol=0.02, err_msg=name)


def test_black_grey_and_white_keep_their_level() -> None:
    for level, light in ((0, 16), (255, 235), (128, 126)):
        rgb = np.full((16, 16, 3), level, np.uint8)
        planes = JpegPlanes().planes(jpeg(rgb, subsampling="4:2:0"))
        assert planes is not None and planes.shape == (24, 16)
        assert np.abs(planes[:16].astype(int) - light).max() <= 1
        assert np.abs(planes[16:].astype(int) - 128).max() <= 1
