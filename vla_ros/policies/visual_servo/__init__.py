"""Finds the named blocks and plates with OpenCV and moves to what it sees; no weights, no simulator state."""

from vla_ros.policies.visual_servo.policy import VisualServoPolicy

__all__ = ["VisualServoPolicy"]
