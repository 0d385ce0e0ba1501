"""Measurements of the running graph and of the safety controller; see docs/benchmarks.md."""
