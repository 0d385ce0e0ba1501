"""Whether what a policy answered is an answer at all: shape, kind of number, finiteness, whose it is."""

from __future__ import annotations

import math
from dataclasses import replace
from numbers import Real

import numpy as np

from vla_ros.errors import PolicyError
from vla_ros.policies.base import PolicyRequirements
from vla_ros.types import Observation, PolicyOutput


def check_output(
    output: PolicyOutput,
    observation: Observation,
    requirements: PolicyRequirements,
    dimension: int,
) -> PolicyOutput:
    """The answer, its values float64 and its tokens int64.

    Args:
        output: (1 to requirements.horizon, dimension) values or tokens; neither only when it terminates.
        observation: the one that was asked about; stamp and sequence of the answer must be its.
        requirements: what the policy declares.
        dimension: of the contract's action space.

    Raises `PolicyError` with the end of a sentence that begins with the policy's name.
    """
    if not isinstance(output, PolicyOutput):
        raise PolicyError(f"answered a {type(output).__name__}, but must answer a PolicyOutput")
    if output.action_space != requirements.action_space:
        raise PolicyError(
            f"answered in action space '{output.action_space}', but declares '{requirements.action_space}'"
        )
    if (output.stamp, output.sequence) != (observation.stamp, observation.sequence):
        raise PolicyError(
            f"answered observation {output.sequence} of {output.stamp} ns, "
            f"but was asked about {observation.sequence} of {observation.stamp} ns"
        )
    declared = "" if requirements.normalization is None else requirements.normalization.key
    if output.normalization_key != declared:
        raise PolicyError(
            f"answered with normalisation key '{output.normalization_key}', but declares '{declared}'"
        )
    if not isinstance(output.text, str) or not isinstance(output.terminate, (bool, np.bool_)):
        raise PolicyError("answered a text that is none, or neither yes nor no whether it is done")
    if not all(isinstance(s, Real) and math.isfinite(s) for s in output.latency.values()):
        raise PolicyError("answered a latency that is no finite number")
    given = [rows for rows in (output.values, output.tokens) if rows is not None]
    if not given and output.terminate:
        return output
    if len(given) != 1:
        raise PolicyError(
            f"answered {'both values and' if given else 'neither values nor'} tokens, but must answer one"
        )
    rows = given[0]
    if not isinstance(rows, np.ndarray):
        raise PolicyError(f"answered a {type(rows).__name__}, but must answer an array")
    if rows.ndim != 2 or rows.shape[1] != dimension or not 1 <= len(rows) <= requirements.horizon:
        raise PolicyError(
            f"answered shape {tuple(rows.shape)}, but its action space needs "
            f"(1 to {requirements.horizon}, {dimension})"
        )
    if output.tokens is not None:
        if not np.issubdtype(rows.dtype, np.integer):
            raise PolicyError(f"answered tokens of {rows.dtype}, but they must be integers")
        return replace(output, tokens=rows.astype(np.int64))
    if not np.issubdtype(rows.dtype, np.floating):
        raise PolicyError(f"answered values of {rows.dtype}, but they must be floating-point numbers")
    if not np.isfinite(rows).all():
        step, column = np.argwhere(~np.isfinite(rows))[0]
        raise PolicyError(f"answered {rows[step, column]} at step {step} in dimension {column}")
    return replace(output, values=rows.astype(np.float64))
