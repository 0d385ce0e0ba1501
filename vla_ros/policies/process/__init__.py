"""A policy in a process of its own: what it does to itself, it does not do to the node.

`isolated.isolated` gives a policy of the same protocol whose model lives in a child process.  Images go over
in anonymous shared memory, everything else as small messages through a pair of sockets.
"""
