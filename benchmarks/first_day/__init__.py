"""The first day of a lab with vla_ros, done by a program: `python -m benchmarks.first_day`."""
