"""Commands that take an instruction, and what they say where it was typed without quotes."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class InstructedCommand(TyperCommand):
    """A command with `--instruction`: words left over are taken for one that lacks its quotes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse words left over with the command that was probably meant."""
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            given = ctx.params.get("instruction") or []
            words = " ".join([*([given] if isinstance(given, str) else given), *ctx.args])
            ctx.fail(
                f"Words were left over: {' '.join(ctx.args)}. An instruction goes behind --instruction, "
                f'in quotes: --instruction "{words}"'
            )
        return rest
