"""The strip between a reference and the robot: kinematics, limits, barriers, shield, states, loop."""
