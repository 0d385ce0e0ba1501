"""Embedded simulation in MuJoCo: scenes, cameras, tasks and their judge; imports no middleware."""

from vla_ros.sim.gl import choose_gl_platform

# MuJoCo reads MUJOCO_GL once, while it is imported, so this comes before any `import mujoco` of this package.
choose_gl_platform()
