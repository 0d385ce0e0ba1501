"""The most that anything from outside may hold: messages, files, answers of a policy.  Stated here once.

A bound is there so that the work for one message is small beside what the robot needs meanwhile; each lies
well above what any published model, robot or data set uses.
"""

from __future__ import annotations

MAX_STEPS = 256
"""Steps of a chunk.  The longest published chunks have 100 (ACT, arXiv 2304.13705) and 50 (pi0, arXiv
2410.24164); to unpack and plan 256 takes 2 to 6 ms (benchmarks/chunk_length.py), a late tick or a few."""
MAX_SECONDS = 20.0
"""From a chunk's stamp to its last step [s]: further ahead nobody has seen anything; ACT's reach 2 s."""
MIN_PERIOD, MAX_PERIOD = 0.001, 5.0
"""Seconds between two steps: the shortest tick of a controller, and slower than any policy."""
MAX_DIMENSION = 64
"""Numbers of a step, and joints of a robot with its grippers: two arms with hands have fewer."""
MAX_CHUNK_BYTES = 2**17
"""Of a serialised chunk: 256 steps of 63 joints.  A longer one is not even unpacked, which would take the
control thread some microseconds a step."""
MAX_STAGES = 64
"""Stages that a policy may give the time of."""
MAX_TEXT = 4096
"""Characters of a text in a message, and of a sentence."""
MAX_NAME = 256
"""Characters of a name: of a joint, frame, obstacle."""
MAX_QUOTED = 120
"""Characters of a value that a sentence quotes."""
MAX_DOCUMENT = 2**20
"""Characters of a contract or another file that people write."""
MAX_ENTRIES = 50_000
"""Values of such a file, those that are named again by an alias counted again."""
MAX_NESTING = 32
"""Depth of such a file."""
MAX_INTEGER = 2**63
"""Whole numbers of such a file are smaller: numpy and messages have no larger ones."""


def excess(steps: int, period: float) -> str:
    """What is too much about a chunk of `steps`, one every `period` [s]: the end of a sentence, or empty."""
    if steps <= MAX_STEPS and steps * period <= MAX_SECONDS * (1.0 + 1e-9):
        return ""
    return (
        f"has {steps} steps of {period:g} s, allowed are at most {MAX_STEPS} steps "
        f"that last {MAX_SECONDS:g} s together"
    )


def plain(text: str, most: int = MAX_TEXT) -> str:
    """A text from outside as a log or a terminal may show it: cut, and without control characters.

    An escape sequence in a name could clear the screen, set the window's title or hide a warning.
    """
    shown = "".join(letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}"
                    for letter in text[:most])  # fmt: skip
    return shown if len(text) <= most else f"{shown}..."


def quoted(value: object) -> str:
    """What was given, as a sentence may quote it: as Python writes it, cut."""
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."
