"""What goes wrong around a moving robot, and what follows: `python -m benchmarks.faults`."""
