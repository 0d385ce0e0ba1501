"""Action semantics: spaces, tokens, normalisation, rotations, and the decoding of a policy's answer."""

from vla_ros.actions.decode import decode
from vla_ros.actions.space import ActionSpace, action_space_names, get_action_space

__all__ = ["ActionSpace", "action_space_names", "decode", "get_action_space"]
