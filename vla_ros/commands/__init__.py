"""The commands of `vla-ros`, one file each."""
