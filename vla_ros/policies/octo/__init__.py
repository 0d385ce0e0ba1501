"""Octo (arXiv 2405.12213): a small transformer with a diffusion head, from the original checkpoints."""

from vla_ros.policies.octo.factory import make_octo

__all__ = ["make_octo"]
