"""The one grammar of instructions, shared by the simulator's tasks and the policies that read them.

    pick up the COLOUR block
    put the COLOUR block on the COLOUR plate | block
    stack the COLOUR block on the COLOUR block
    push the COLOUR block to the left | right

Case, punctuation, "please" and articles do not matter; the verbs and nouns have the synonyms below.
Left is +y of the robot's base frame, right is -y.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from vla_ros.errors import InstructionError

COLOURS = (
    "red",
    "green",
    "blue",
    "yellow",
    "orange",
    "purple",
    "pink",
    "cyan",
    "brown",
    "black",
    "white",
    "grey",
)
"""Colour words the grammar knows; a scene holds only some of them."""

UNDERSTOOD = (
    '"pick up the red block", "put the blue block on the green plate", '
    '"stack the red block on the blue block", "push the yellow block to the left"'
)


class Verb(str, Enum):
    """What is to be done."""

    PICK = "pick"
    PLACE = "place"
    PUSH = "push"
    STACK = "stack"


@dataclass(frozen=True)
class ParsedInstruction:
    """One instruction; fields that do not belong to the verb are empty strings."""

    verb: Verb
    target_colour: str
    target_kind: str
    """Always "block": plates are only put things on."""
    destination_colour: str = ""
    destination_kind: str = ""
    """"plate" or "block"; `Verb.PLACE` has "plate", `Verb.STACK` has "block"."""
    side: str = ""
    """"left" (+y) or "right" (-y) for `Verb.PUSH`."""

    @property
    def objects(self) -> tuple[tuple[str, str], ...]:
        """(colour, kind) of everything named, the target first."""
        named = [(self.target_colour, self.target_kind)]
        if self.destination_colour:
            named.append((self.destination_colour, self.destination_kind))
        return tuple(named)


_COLOUR = "|".join((*COLOURS, "gray", "violet"))
_BLOCK = "block|cube|brick"
_PLATE = "plate|disc|disk|dish"
_TARGET = rf"(?:the |a |an )?(?P<target>{_COLOUR}) (?:{_BLOCK})"
_NOUN = rf"(?P<kind>{_BLOCK}|{_PLATE})"
_ONTO = rf"(?:on|onto|on to|on top of|over) (?:the |a |an )?(?P<destination>{_COLOUR}) {_NOUN}"
_SIDE = r"(?:to |towards |toward )?(?:the |your )?(?P<side>left|right)(?: side)?"
_FORMS = (
    (Verb.PICK, re.compile(rf"(?:pick up|pick|grasp|grab|take|lift up|lift) {_TARGET}(?: up)?")),
    (Verb.PLACE, re.compile(rf"(?:put|place|set|lay|move|stack) {_TARGET} {_ONTO}")),
    (Verb.PUSH, re.compile(rf"(?:push|slide|shove|move) {_TARGET} {_SIDE}")),
)
_SAME_COLOUR = {"gray": "grey", "violet": "purple"}


def parse_instruction(text: str) -> ParsedInstruction:
    """Read `text` into verb, objects and side.

    Putting a block on a block is `Verb.STACK`, on a plate `Verb.PLACE`, whichever verb was used.
    Raises `InstructionError` when `text` is empty or not of the grammar above.
    """
    # letters of every script and digits are kept: a word that is not known must not be passed over
    words = " ".join(re.sub(r"[^\w\s]|_", " ", text.lower()).split())
    if not text.strip():
        raise InstructionError(f"The instruction is empty; understood are for example {UNDERSTOOD}.")
    words = re.sub(r"^please | please$", "", words)
    for verb, form in _FORMS:
        match = form.fullmatch(words)
        if match is None:
            continue
        found = match.groupdict()
        target = _colour(found["target"])
        if verb is not Verb.PLACE:
            return ParsedInstruction(verb, target, "block", side=found.get("side") or "")
        destination = _colour(found["destination"])
        kind = "plate" if re.fullmatch(_PLATE, found["kind"]) else "block"
        if kind == "block" and destination == target:
            raise InstructionError(
                f'The instruction "{text.strip()}" puts the {target} block on itself; name two blocks.'
            )
        onto = Verb.PLACE if kind == "plate" else Verb.STACK
        return ParsedInstruction(onto, target, "block", destination, kind)
    raise InstructionError(
        f'The instruction "{text.strip()}" was not understood; understood are for example {UNDERSTOOD}.'
    )


def _colour(word: str) -> str:
    return _SAME_COLOUR.get(word, word)
