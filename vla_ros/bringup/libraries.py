"""Libraries that not every installation has: what to do where one is missing."""

from __future__ import annotations

ROS_ADVICE = "Run `make env` in the checkout, or source the setup.bash of your ROS 2 workspace."
_ROS = ("rclpy", "rpyutils", "ament_index_python", "launch", "launch_ros")
_ROS_ENDINGS = ("_msgs", "_interfaces")
"""Packages that come with ROS 2, or with the wheels that `make env` installs."""
_INTERFACES = ("vla_ros.msg", "vla_ros.srv", "vla_ros.action")
"""Built from this package's msg/, srv/ and action/."""
_EXTRAS = {
    "mujoco": ("MuJoCo", "sim"),
    "torch": ("PyTorch", "torch"),
    "transformers": ("transformers", "torch"),
    "rerun": ("Rerun", "view"),
    "onnxruntime": ("ONNX Runtime", "onnx"),
    "onnx": ("ONNX", "onnx"),
    "peft": ("peft", "train"),
}
"""What others are called, and the extra of this package that brings them."""


def missing_library(error: ImportError) -> str:
    """What to do about an import that failed; empty where it is not of a library that may be missing."""
    name = error.name or ""
    root = name.split(".")[0]
    if root in _ROS or root.endswith(_ROS_ENDINGS):
        return f"This needs ROS 2, but {root} is not installed. {ROS_ADVICE}"
    if name in _INTERFACES or any(name.startswith(f"{built}.") for built in _INTERFACES):
        return f"This needs the messages of vla_ros, which are not built here. {ROS_ADVICE}"
    if root in _EXTRAS:
        title, extra = _EXTRAS[root]
        return f"This needs {title}, which is not installed: `pip install 'vla-ros[{extra}]'`."
    return ""
