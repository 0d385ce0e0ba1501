"""Camera images and calibration as the real camera drivers publish them."""

from __future__ import annotations

import array
from typing import Any

import cv2
import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage
from sensor_msgs.msg import Image as ImageMessage

from vla_ros.nodes.conversions import image_message, to_time
from vla_ros.robots.spec import CameraSpec
from vla_ros.types import CameraImage, Image

IMAGE_QUALITY = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
JPEG_QUALITY = 90


class CameraTopics:
    """One image and one camera_info topic a camera."""

    def __init__(self, node: Node, cameras: dict[str, CameraSpec]) -> None:
        self._publishers: dict[str, tuple[Any, Any]] = {}
        self.frames = dict.fromkeys(cameras, 0)
        for name, camera in cameras.items():
            kind = CompressedImage if camera.compressed else ImageMessage
            # .../image_raw and .../image_raw/compressed have their camera_info beside image_raw
            folder = camera.topic.removesuffix("/compressed").rsplit("/", 1)[0]
            self._publishers[name] = (
                node.create_publisher(kind, camera.topic, IMAGE_QUALITY),
                node.create_publisher(CameraInfo, f"{folder}/camera_info", IMAGE_QUALITY),
            )
        self._infos = {name: camera_info(camera) for name, camera in cameras.items()}

    def publish(self, camera: CameraSpec, stamp: int, image: Image) -> None:
        """Publish a frame; called from the camera thread."""
        images, infos = self._publishers[camera.name]
        frame = optical_frame(camera)
        if camera.compressed:
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
            message = CompressedImage(format="rgb8; jpeg compressed bgr8")
            message.header.stamp, message.header.frame_id = to_time(stamp), frame
            message.data = array.array("B", jpeg.tobytes())
        else:
            message = image_message(CameraImage(stamp, image), frame)
        images.publish(message)
        info = self._infos[camera.name]
        info.header.stamp = message.header.stamp
        infos.publish(info)
        self.frames[camera.name] += 1


def optical_frame(camera: CameraSpec) -> str:
    """Name of a camera's optical frame."""
    return f"{camera.name}_optical_frame"


def camera_info(camera: CameraSpec) -> CameraInfo:
    """Calibration without distortion."""
    k = camera.intrinsics
    info = CameraInfo(height=camera.height, width=camera.width, distortion_model="plumb_bob")
    info.header.frame_id = optical_frame(camera)
    info.d = [0.0] * 5
    info.k = k.ravel()
    info.r = np.eye(3).ravel()
    info.p = np.hstack([k, np.zeros((3, 1))]).ravel()
    return info
