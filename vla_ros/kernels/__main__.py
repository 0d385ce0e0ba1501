"""`python -m vla_ros.kernels`: compile everything now, so that no node does it when it starts."""

from vla_ros.kernels import clearance, curve, discontinuity, motion, tool  # noqa: F401  (importing compiles)
