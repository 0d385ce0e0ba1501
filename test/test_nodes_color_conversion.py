"""cv_bridge converts where it is installed and works; what it would take without a word is refused before."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("rclpy", reason="needs ROS 2's messages")

from sensor_msgs.msg import Image as ImageMessage

from vla_ros.errors import ObservationError
from vla_ros.nodes.color_conversion import CHANNELS, by_opencv, converter
from vla_ros.nodes.images import rgb_of

CONVERTED = sorted(set(CHANNELS) - {"rgb8"})
SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@pytest.fixture(autouse=True)
def chosen_anew() -> Iterator[None]:
    """No test is left with the converter of another."""
    converter.cache_clear()
    yield
    converter.cache_clear()


class Bridge:
    """In the place of `cv_bridge.CvBridge`: the same arithmetic, and what it was asked for."""

    codes = {
        "bgr8": cv2.COLOR_BGR2RGB, "rgba8": cv2.COLOR_RGBA2RGB, "bgra8": cv2.COLOR_BGRA2RGB,
        "mono8": cv2.COLOR_GRAY2RGB,
    }  # fmt: skip

    def __init__(self) -> None:
        self.asked: list[ImageMessage] = []

    def imgmsg_to_cv2(self, message: ImageMessage, desired_encoding: str) -> Any:
        self.asked.append(message)
        assert desired_encoding == "rgb8"
        channels = CHANNELS[message.encoding]
        # as the original does: the bytes of a row are divided by those of a pixel, and what is left is lost
        shape = (message.height, message.step // channels, channels)
        pixels = np.ndarray(shape=shape, dtype=np.uint8, buffer=message.data)
        pixels = np.ascontiguousarray(pixels[: message.height, : message.width])
        return cv2.cvtColor(pixels, self.codes[message.encoding])


def install(monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    module = ModuleType("cv_bridge")
    module.CvBridge = make  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    converter.cache_clear()


def message_of(pixels: np.ndarray, encoding: str, padding: int = 0) -> ImageMessage:
    height, width = pixels.shape[:2]
    rows = np.concatenate([pixels.reshape(height, -1), np.full((height, padding), 255, np.uint8)], axis=1)
    message = ImageMessage(height=height, width=width, encoding=encoding, step=rows.shape[1])
    message.data = rows.tobytes()
    return message


@st.composite
def images(draw: st.DrawFn) -> tuple[np.ndarray, str, int]:
    encoding = draw(st.sampled_from(CONVERTED))
    shape = (*draw(SIZES), CHANNELS[encoding])
    return draw(hnp.arrays(np.uint8, shape)), encoding, draw(st.integers(0, 7))


def test_without_cv_bridge_opencv_converts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    converter.cache_clear()
    assert (converter().name, converter().trouble) == ("OpenCV", "")
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(rgb_of(message_of(pixels, "bgr8"), "/t"), pixels[..., ::-1])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(images())
def test_cv_bridge_is_used_and_never_sees_padding_or_another_byte_order(
    monkeypatch: pytest.MonkeyPatch, image: tuple[np.ndarray, str, int]
) -> None:
    pixels, encoding, padding = image
    bridge = Bridge()
    install(monkeypatch, lambda: bridge)
    assert (converter().name, converter().trouble) == ("cv_bridge", "")
    bridge.asked.clear()
    message = message_of(pixels, encoding, padding)
    message.is_bigendian = 1
    np.testing.assert_array_equal(rgb_of(message, "/t"), by_opencv(pixels, encoding))
    (asked,) = bridge.asked
    assert asked.encoding == encoding and asked.is_bigendian == 0
    assert asked.step == asked.width * CHANNELS[encoding] and len(asked.data) == asked.height * asked.step


def test_rgb8_is_converted_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = Bridge()
    install(monkeypatch, lambda: bridge)
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(rgb_of(message_of(pixels, "rgb8"), "/t"), pixels)
    assert bridge.asked == []


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"encoding": "16UC1"}, "'16UC1', allowed are"),
        ({"encoding": "bayer_rggb8"}, "'bayer_rggb8', allowed are"),
        ({"encoding": "8UC3"}, "'8UC3', allowed are"),
        ({"encoding": ""}, "'', allowed are"),
        ({"data": bytes(25)}, "25 bytes"),
        ({"data": bytes(23)}, "23 bytes"),
        ({"step": 11}, "step 11"),
        ({"height": 0}, "24 bytes"),
    ],
)
def test_what_cv_bridge_would_take_is_refused_before(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], fragment: str
) -> None:
    bridge = Bridge()
    install(monkeypatch, lambda: bridge)
    assert converter().name == "cv_bridge"
    bridge.asked.clear()
    message = message_of(np.zeros((2, 4, 3), np.uint8), "bgr8")
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(ObservationError, match="/camera/x") as caught:
        rgb_of(message, "/camera/x")
    assert fragment in str(caught.value) and bridge.asked == []


class CvBridgeError(TypeError):
    """As in cv_bridge."""


@pytest.mark.parametrize(
    ("answer", "fragment"),
    [
        (CvBridgeError("[bgr8] is not\na color format"), "CvBridgeError: [bgr8] is not a color format"),
        (RuntimeError("out of memory"), "RuntimeError: out of memory"),
        (cv2.error("Bad argument"), "Bad argument"),
        (np.zeros((2, 5, 3), np.uint8), "(2, 5, 3)"),
        (np.zeros((2, 4, 3), np.float32), "float32"),
        (None, "NoneType"),
    ],
)
def test_a_frame_that_cv_bridge_cannot_convert_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, answer: Any, fragment: str
) -> None:
    bridge = Bridge()
    install(monkeypatch, lambda: bridge)
    assert converter().name == "cv_bridge"

    def fails(message: ImageMessage, desired_encoding: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    bridge.imgmsg_to_cv2 = fails  # type: ignore[method-assign]
    with pytest.raises(ObservationError) as caught:
        rgb_of(message_of(np.zeros((2, 4, 3), np.uint8), "bgr8"), "/camera/x")
    words = str(caught.value)
    assert words.startswith("Image on /camera/x: cv_bridge ") and fragment in words and "\n" not in words


def _raises(error: Exception) -> Any:
    def imgmsg_to_cv2(message: ImageMessage, desired_encoding: str) -> Any:
        raise error

    return lambda: SimpleNamespace(imgmsg_to_cv2=imgmsg_to_cv2)


def _no_bridge() -> Any:
    raise AttributeError("_ARRAY_API not found")


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        # its compiled part against another NumPy: at the first image, not at the import
        (_raises(ImportError("numpy.core.multiarray failed to import")), "numpy.core.multiarray"),
        (_no_bridge, "_ARRAY_API"),
        (lambda: SimpleNamespace(imgmsg_to_cv2=lambda m, desired_encoding: _swapped(m)), "differ"),
    ],
)
def test_a_cv_bridge_that_does_not_work_is_not_used_and_that_is_known(
    monkeypatch: pytest.MonkeyPatch, make: Any, fragment: str
) -> None:
    install(monkeypatch, make)
    assert converter().name == "OpenCV"
    assert fragment in converter().trouble and converter().trouble.count("\n") == 0
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(rgb_of(message_of(pixels, "bgr8"), "/t"), pixels[..., ::-1])


def _swapped(message: ImageMessage) -> np.ndarray:
    """Red and blue exchanged."""
    return np.ascontiguousarray(Bridge().imgmsg_to_cv2(message, "rgb8")[..., ::-1])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(images())
def test_the_real_cv_bridge_and_opencv_agree(image: tuple[np.ndarray, str, int]) -> None:
    pytest.importorskip("cv_bridge", reason="cv_bridge is not installed here (it is on no package registry)")
    assert (converter().name, converter().trouble) == ("cv_bridge", "")
    pixels, encoding, padding = image
    expected = by_opencv(pixels, encoding)
    np.testing.assert_array_equal(rgb_of(message_of(pixels, encoding, padding), "/t"), expected)
