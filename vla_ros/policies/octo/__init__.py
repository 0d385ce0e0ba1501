"""Octo (arXiv 2405.12213): a small transformer with a diffusion head, from the original checkpoints."""
