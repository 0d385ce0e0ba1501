"""OpenVLA (arXiv 2406.09246): seven billion parameters that answer an image and words in action tokens."""

from vla_ros.policies.openvla.factory import make_openvla

__all__ = ["make_openvla"]
