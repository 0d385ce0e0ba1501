"""Chunk execution: alignment with the observation, interpolation to a continuous reference."""
