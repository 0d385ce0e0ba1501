"""RT-2's recipe (arXiv 2307.15818) on any vision-language model: actions are words of its answer."""

from vla_ros.policies.rt2.factory import make_rt2

__all__ = ["make_rt2"]
