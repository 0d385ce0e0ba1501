"""Policies over the network, in openpi's wire form: its servers serve our robots, ours serve its clients."""

from vla_ros.policies.remote.client import make_remote

__all__ = ["make_remote"]
