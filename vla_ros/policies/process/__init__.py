"""A policy in a process of its own: what it does to itself, it does not do to the node.

`isolated` gives a policy of the same protocol whose model lives in a child process.  Images go over in
anonymous shared memory, everything else as small messages through a pair of sockets.
"""

from vla_ros.policies.process.isolated import IsolatedPolicy, isolated
from vla_ros.policies.process.screening import check_output

__all__ = ["IsolatedPolicy", "check_output", "isolated"]
