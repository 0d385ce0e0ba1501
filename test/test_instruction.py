"""The grammar of instructions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import InstructionError
from vla_ros.instruction import COLOURS, ParsedInstruction, Verb, parse_instruction


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("pick up the red block", ParsedInstruction(Verb.PICK, "red", "block")),
        ("  Please grab the Yellow cube. ", ParsedInstruction(Verb.PICK, "yellow", "block")),
        ("pick the gray block up", ParsedInstruction(Verb.PICK, "grey", "block")),
        (
            "put the blue block on the green plate",
            ParsedInstruction(Verb.PLACE, "blue", "block", "green", "plate"),
        ),
        (
            "stack the red block on the blue block",
            ParsedInstruction(Verb.STACK, "red", "block", "blue", "block"),
        ),
        (
            "put the red cube on top of the blue cube",
            ParsedInstruction(Verb.STACK, "red", "block", "blue", "block"),
        ),
        (
            "stack the red block on the red plate",
            ParsedInstruction(Verb.PLACE, "red", "block", "red", "plate"),
        ),
        ("push the yellow block to the left", ParsedInstruction(Verb.PUSH, "yellow", "block", side="left")),
        ("slide the red block right", ParsedInstruction(Verb.PUSH, "red", "block", side="right")),
    ],
)
def test_understood(text: str, parsed: ParsedInstruction) -> None:
    assert parse_instruction(text) == parsed


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_empty_is_refused(text: str) -> None:
    with pytest.raises(InstructionError, match="empty"):
        parse_instruction(text)


@pytest.mark.parametrize(
    "text",
    [
        "...",
        "123",
        "🤖",
        "make me a sandwich",
        "pick up the block",
        "pick up the red plate",
        "push the red block",
        "push the red block on the green plate",
        "put the red block",
        "pick up the red block and then dance",
    ],
)
def test_not_understood_names_what_is(text: str) -> None:
    with pytest.raises(InstructionError, match="pick up the red block"):
        parse_instruction(text)


def test_a_block_cannot_be_stacked_on_itself() -> None:
    with pytest.raises(InstructionError, match="itself"):
        parse_instruction("stack the red block on the red block")


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused_plainly(text: str) -> None:
    try:
        parsed = parse_instruction(text)
    except InstructionError as error:
        assert str(error).endswith(".")
    else:
        assert parsed.target_colour in COLOURS


@given(st.sampled_from(COLOURS), st.sampled_from(COLOURS))
def test_objects_lists_the_target_first(target: str, destination: str) -> None:
    parsed = parse_instruction(f"put the {target} block on the {destination} plate")
    assert parsed.objects == ((target, "block"), (destination, "plate"))
