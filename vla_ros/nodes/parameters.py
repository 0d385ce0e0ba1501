"""Parameters of a node as one table: declared from it, checked against it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from vla_ros.bounds import quoted
from vla_ros.errors import ConfigurationError


@dataclass(frozen=True)
class Parameter:
    """One row of a node's parameter table; the type of `default` is the type of the parameter."""

    name: str
    default: bool | int | float | str | list[str]
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = True
    """Read-only parameters are set at start and cannot be changed while the node runs."""

    @property
    def allowed(self) -> str:
        """The allowed values in words; empty when anything of the type goes."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f"{self.minimum:g} to {self.maximum:g}"
        if self.minimum is not None:
            return f"at least {self.minimum:g}"
        return ""

    def descriptor(self) -> ParameterDescriptor:
        """The table row as ROS sees it."""
        descriptor = ParameterDescriptor(
            description=self.description,
            read_only=self.read_only,
            additional_constraints=self.allowed if self.choices else "",
        )
        if self.minimum is None:
            return descriptor
        if isinstance(self.default, float):
            upper = self.maximum if self.maximum is not None else 1e12
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(self.minimum), to_value=float(upper))
            ]
        else:
            upper = self.maximum if self.maximum is not None else 2**62
            descriptor.integer_range = [
                IntegerRange(from_value=int(self.minimum), to_value=int(upper), step=1)
            ]
        return descriptor


def declare(node: Node, table: Iterable[Parameter]) -> None:
    """Declare every parameter of `table`.  Raises `ConfigurationError` for a value that is not allowed."""
    for row in table:
        try:
            node.declare_parameter(row.name, row.default, row.descriptor())
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            given = _given(node, row.name)
            kind = type(row.default).__name__
            allowed = f"{kind}, {row.allowed}" if row.allowed else kind
            raise ConfigurationError(
                f"Parameter '{row.name}' of node '{node.get_name()}' was given as {quoted(given)}, "
                f"allowed is {allowed}."
            ) from error
        value = node.get_parameter(row.name).value
        if row.choices and value not in row.choices:
            raise ConfigurationError(
                f"Parameter '{row.name}' of node '{node.get_name()}' was given as {quoted(value)}, "
                f"allowed is {row.allowed}."
            )


def _given(node: Node, name: str) -> Any:
    override = node._parameter_overrides.get(name)  # no public accessor before declaration
    return None if override is None else override.value
