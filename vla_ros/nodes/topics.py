"""Names and qualities of service of the package's own topics."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

OBSERVATION = "/vla/observation"
POLICY_OUTPUT = "/vla/policy_output"
ACTION_CHUNK = "/vla/action_chunk"
INSTRUCTION = "/vla/instruction"
ACTION_PREFIX = "/vla/action_prefix"
JOINT_SETPOINT = "/vla/joint_setpoint"
SAFETY_STATUS = "/vla/safety_status"
HEARTBEAT = "/vla/heartbeat"
EPISODE_STATUS = "/vla/episode_status"
SIMULATOR_STATUS = "/simulator/episode_status"
DIAGNOSTICS = "/diagnostics"

SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For images and joint states: fits every publisher, reliable or not."""
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""Only the newest counts (observations)."""
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
"""Late subscribers get the last message (instructions)."""
