"""A person moves the robot: devices, what their motion means, and what a terminal shows of it."""
