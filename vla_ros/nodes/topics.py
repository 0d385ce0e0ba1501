"""Names and qualities of service of the package's own topics."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

OBSERVATION = "/vla/observation"
POLICY_OUTPUT = "/vla/policy_output"
ACTION_CHUNK = "/vla/action_chunk"
INSTRUCTION = "/vla/instruction"
AUTHORITY = "/vla/authority"
ACTION_PREFIX = "/vla/action_prefix"
JOINT_SETPOINT = "/vla/joint_setpoint"
SAFETY_STATUS = "/vla/safety_status"
HEARTBEAT = "/vla/heartbeat"
EPISODE_STATUS = "/vla/episode_status"
CONTROL_EVENTS = "/vla/control_events"
RECORDER_STATUS = "/vla/recorder_status"
SIMULATOR_SCENE = "/simulator/scene"
SIMULATOR_OBJECTS = "/simulator/objects"
"""Where everything on the table is; sensor_msgs/MultiDOFJointState by the objects' names."""
HOLD_TIME = "/simulator/hold_time"
"""Simulated time [s] at which it stands until another is told; std_msgs/Float64."""
SIMULATOR_STATUS = "/simulator/episode_status"
DIAGNOSTICS = "/diagnostics"
OBSERVATION_AGE = "median age of an observation [s]"
"""Key in the ingester's diagnostics: of the observations since the last."""

SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For images and joint states: fits every publisher, reliable or not."""
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""Only the newest counts (observations)."""
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
"""Late subscribers get the last message (instructions)."""
JOURNAL = QoSProfile(
    depth=500, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
"""Few messages, none of which may be missed, by whoever comes when."""
