"""OpenVLA-OFT (arXiv 2502.19645): OpenVLA fine-tuned to answer a chunk of continuous actions at once."""

from vla_ros.policies.openvla.oft.factory import make_openvla_oft

__all__ = ["make_openvla_oft"]
