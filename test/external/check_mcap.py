"""Do the MCAP libraries read our bags?  `check_mcap.py BAG`, in their environment."""

from __future__ import annotations

import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory


def main(bag: Path) -> None:
    """Decode everything; raise `AssertionError` when counts differ from the file's own summary."""
    print("mcap", version("mcap"), "mcap-ros2-support", version("mcap-ros2-support"))
    (file,) = bag.glob("*.mcap")
    seen: Counter[str] = Counter()
    with file.open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()], validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        for _, channel, _, message in reader.iter_decoded_messages():
            seen[channel.topic] += 1
            assert message is not None
        counts = summary.statistics.channel_message_counts
        told = {summary.channels[key].topic: count for key, count in counts.items()}
    assert {k: v for k, v in told.items() if v} == dict(seen), "counts"
    assert {"/vla/policy_output", "/vla/observation", "/vla/joint_setpoint"} <= set(seen)
    print(f"{bag.name}: {sum(seen.values())} messages of {len(seen)} topics decoded")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
