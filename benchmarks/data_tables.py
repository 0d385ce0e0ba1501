"""Tables of the benchmarks of recording, auditing and converting."""

from __future__ import annotations

from benchmarks.tables import Document, Rows


def recording_rows(document: Document) -> list[Rows]:
    """The tables of `recording.py`."""
    cells = []
    for way in ("raw", "jpeg", "h264"):
        found = document[way]
        loss = [entry["mean_psnr"] for entry in found["image_loss"].values()]
        cells.append(
            [
                way,
                str(sum(found["sent"].values())),
                str(sum(found["missing"].values())),
                f"{found['recorder_cores']:.2f}",
                f"{found['bag_mb'] / found['seconds']:.1f}",
                f"{min(loss):.1f}" if loss else "none",
            ]
        )
    heads = ["images as", "messages", "missing", "cores", "MB/s", "loss, PSNR [dB]"]
    found, written = document["throughput"], document["throughput"]["write_us"]
    disk = [
        f"{found['bag_mb_per_s']:.0f}", f"{found['plain_mb_per_s']:.0f}",
        f"{found['bag_over_plain']['median']:.2f}", f"{written['p50']:.1f}", f"{written['p99']:.0f}",
        f"{written['max']:.0f}",
    ]  # fmt: skip
    return [
        Rows("Three cameras of 640 x 480 at 30 Hz and joint states at 1 kHz, live", heads, cells),
        Rows(
            "Writing messages into a bag against the same bytes into a file",
            ["bag [MB/s]", "file [MB/s]", "ratio", "a message, p50 [us]", "p99", "largest"],
            [disk],
        ),
    ]


def audit_rows(document: Document) -> list[Rows]:
    """The table of `audit.py`."""
    cells = []
    for name, found in document["audit"].items():
        pace, spent, memory = found["times_real_time"], found["processor_seconds"], found["memory_mb"]
        cells.append(
            [
                name,
                f"{found['seconds_of_bag']:g}",
                f"{found['bytes'] / 1e6:.0f}",
                f"{pace['read']:.0f}",
                f"{pace['audit']:.0f}",
                f"{found['seconds_of_bag'] / max(spent['audit']):.0f}",
                f"{memory['read']:.0f}",
                f"{memory['audit']:.0f}",
            ]
        )
    heads = [
        "bag",
        "length [s]",
        "size [MB]",
        "plain reading",
        "audit",
        "audit, slowest",
        "reading [MB]",
        "audit [MB]",
    ]
    return [Rows("Times faster than real time on one core (median), and largest memory", heads, cells)]


def conversion_rows(document: Document) -> list[Rows]:
    """The tables of `conversion.py`."""
    cells = [
        [
            name,
            f"{found['seconds_of_bag']:g}",
            *(f"{found['times_real_time'][way]:.1f}" for way in ("engine", "plain", "raw")),
            f"{max(found['processor_seconds']['engine']):.1f}",
        ]
        for name, found in document["conversion"].items()
    ]
    heads = ["to", "length [s]", "engine", "plain loop", "raw bytes", "engine [processor s]"]
    memory = [
        [name, *(f"{found[format]:.0f}" for format in ("lerobot", "rlds"))]
        for name, found in document["memory_mb"].items()
    ]
    return [
        Rows("Times faster than real time (wall time, median)", heads, cells),
        Rows("Largest memory of one process [MB]", ["bag", "LeRobot", "RLDS"], memory),
    ]
