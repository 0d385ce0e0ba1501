"""Results as tables: for the terminal, and for the documents that hold what is committed.

`python benchmarks/tables.py` writes the tables of benchmarks/results into the documents anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.machine import ROOT

DOCUMENTS = tuple(
    ROOT / "docs" / f"{name}.md" for name in ("benchmarks", "policies", "ros_install", "first_day")
)
RESULTS = ROOT / "benchmarks" / "results"
_MARKED = r"(<!-- {name}: begin[^\n]*-->\n).*?(<!-- {name}: end -->)"
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """One table: heads and cells as text."""

    title: str
    heads: Sequence[str]
    cells: Sequence[Sequence[str]]

    def rich(self) -> Table:
        """For the terminal."""
        table = Table(title=self.title, title_justify="left")
        for number, head in enumerate(self.heads):
            table.add_column(head, justify="right" if number else "left")
        for row in self.cells:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a document."""
        lines = [
            f"**{self.title}**",
            "",
            "| " + " | ".join(self.heads) + " |",
            "|---" + "|---:" * (len(self.heads) - 1) + "|",
            *("| " + " | ".join(row) + " |" for row in self.cells),
        ]
        return "\n".join(lines)


def graph_rows(document: Document) -> list[Rows]:
    """The tables of `graph.py`."""
    runs = document["runs"]
    frames, setup = document["frames"], document["setup"]
    targets = [
        [name, _number(t["value"]), _number(t["limit"]), "yes" if t["met"] else "NO"]
        + ([", ".join(_number(v) for v in runs["targets"][name])] if runs["count"] > 1 else [])
        for name, t in document["targets"].items()
    ]
    heads = ["target", "measured", "at most", "met"] + (["all runs"] if runs["count"] > 1 else [])
    where = {**frames["lost_where"]}
    refused = where.pop("refused by the ingester")
    lost = [[f"lost: {place}", str(count)] for place, count in where.items()]
    lost += [[f"lost: refused by the ingester, {reason}", str(count)] for reason, count in refused.items()]
    counts = [
        [f"{kind}, {camera}", str(frames[key][camera])]
        for kind, key in (("published", "published"), ("in an Observation", "in_an_observation"))
        for camera in frames["published"]
    ]
    busy = document["cpu_machine_percent"]
    cpu = [[name, f"{share:.1f}"] for name, share in document["cpu_percent"].items()]
    cpu.append([f"all {document['machine']['cores']} cores together, busy", f"{busy['busy']:.1f}"])
    cpu.append(["all cores together, stolen by the hypervisor", f"{busy['stolen']:.1f}"])
    return [
        Rows(f"Targets, {setup['seconds']:g} s", heads, targets),
        Rows("Frames", ["frames", "count"], counts + lost),
        _summaries("Latency [ms]", document["latency_ms"]),
        _summaries(f"Control period error at {setup['control_rate']:g} Hz [ms]", document["period_error_ms"]),
        Rows("CPU", ["process", "% of one core"], cpu),
    ]


def safety_rows(document: Document) -> list[Rows]:
    """The tables of `safety_cycle.py`."""
    found = [
        _summaries(f"{robot}, one cycle at {figures['rate']:g} Hz [ms]", figures["stages_ms"])
        for robot, figures in document["robots"].items()
    ]
    for run in document.get("loops", ()):
        share = 100.0 * run["misses"] / max(run["ticks"], 1)
        missed = f"{run['misses']} of {run['ticks']} ticks missed ({share:.2f} %)"
        title = f"{run['loop']} loop at {run['rate']:g} Hz: {missed} [ms]"
        found.append(_summaries(title, {"woken late by": run["late_ms"], "work": run["work_ms"]}))
    memory = document.get("memory")
    if memory is not None:
        cells = [
            ["ticks", str(memory["ticks"])],
            ["before [MiB]", f"{memory['before_mib']:.1f}"],
            [
                "after a fifth of the time [MiB]",
                f"{memory['every_10_s_mib'][len(memory['every_10_s_mib']) // 5]:.1f}",
            ],
            ["at the end [MiB]", f"{memory['after_mib']:.1f}"],
        ]
        found.append(
            Rows(f"Memory over {memory['minutes']:g} minutes at {memory['rate']:g} Hz", ["", ""], cells)
        )
    return found


def graph_tables(document: Document) -> list[Table]:
    """For the terminal."""
    return [rows.rich() for rows in graph_rows(document)]


def safety_tables(document: Document) -> list[Table]:
    """For the terminal."""
    return [rows.rich() for rows in safety_rows(document)]


def eval_rows(document: Document) -> list[Rows]:
    """The table of `vla-ros eval`."""
    episodes = document["per_episode"]
    seconds = sorted(episode["seconds"] for episode in episodes if episode["outcome"] == "success")
    cells = [
        ["episodes", str(document["episodes"])],
        ["successes", str(document["successes"])],
        ["limit violations", str(document["violations"])],
        ["ticks judged", str(document["judged_ticks"])],
        ["interventions", str(sum(episode["interventions"] for episode in episodes))],
        ["seconds to success, median", _number(seconds[len(seconds) // 2] if seconds else None)],
    ]
    delay = document["policy_delay"]
    late = f", every answer {1e3 * delay:g} ms later" if delay else ""
    title = f"{document['robot']}, {document['task']}, seeds from {document['seed']}{late}"
    return [Rows(title, ["", ""], cells)]


def replay_rows(document: Document) -> list[Rows]:
    """The table of `vla-ros replay`."""
    names = {
        "trajectories": "trajectories",
        "violations": "limit violations",
        "median_position_error_m": "end point, driven against recorded state, median [m]",
        "median_rotation_error_rad": "the same [rad]",
        "median_actions_position_error_m": "the recorded actions alone, median [m]",
        "median_actions_rotation_error_rad": "the same [rad]",
        "median_following_error_m": "driven against recorded actions, median [m]",
    }
    return [
        Rows("Bridge sample", ["", ""], [[label, _number(document[key])] for key, label in names.items()])
    ]


def chunk_rows(document: Document) -> list[Rows]:
    """The tables of `chunk_execution.py`."""
    methods = document["methods"]
    plain = {name: m for name, m in methods.items() if not name.endswith(", limited")}
    heads = [
        "", "joints: velocity / acceleration / jerk", "tool: the same", "border jump: m / (m/s) / (m/s²)",
        "path error, rms, p95 [mm]", "rms [rad]", "nearest point, rms [mm]", "time to stop, median [s]",
    ]  # fmt: skip
    cells = [
        [
            name,
            _shares(m["shares"]["joints"]),
            _shares(m["shares"]["tool"]),
            " / ".join("0" if max(pair) < 1e-9 else f"{max(pair):.2g}" for pair in m["border_jump"].values()),
            f"{1e3 * m['path_error_m']['rms']:.2f}, {1e3 * m['path_error_m']['p95']:.2f}",
            f"{m['path_error_rad']['rms']:.4f}",
            f"{1e3 * m['path_deviation_m']['rms']:.2f}",
            f"{m['seconds_to_stop']['median']:.2f}",
        ]
        for name, m in plain.items()
    ]
    count, groups = len(document["streams"]), document["groups"]
    shaped = [
        [
            name.removesuffix(", limited"),
            _shares(m["shares"]["tool"]),
            f"{1e3 * m['path_error_m']['rms']:.2f}, {1e3 * m['path_error_m']['p95']:.2f}",
            *(f"{1e3 * methods[name]['path_error_m']['rms']:.2f}" for methods in groups.values()),
        ]
        for name, m in methods.items()
        if name.endswith(", limited")
    ]
    return [
        Rows(f"{count} streams: greatest shares of the limits, jumps, errors", heads, cells),
        Rows(
            "References behind the same limiter of the tool: path error [mm]",
            ["", "tool: velocity / acceleration / jerk", "rms, p95", *(f"{group}, rms" for group in groups)],
            shaped,
        ),
    ]


def _shares(shares: Mapping[str, float]) -> str:
    return " / ".join(f"{value:.3f}" if value < 10.0 else f"{value:.0f}" for value in shares.values())


def adversary_rows(document: Document) -> list[Rows]:
    """The tables of `adversary.py`."""
    robots = document["robots"]
    heads = [
        "", "ticks", "episodes", "violations", "FCI reflexes",
        "velocity", "acceleration", "jerk", "tool speed", "turning speed", "elbow speed",
    ]  # fmt: skip
    cells = [
        [
            name, f"{found['ticks']:,}", str(found["episodes"]), str(found["violations"]),
            str(found["fci_reflexes"]) if name in ("panda", "fr3") else "-",
            *(_peak(found, kind) for kind in ("velocity", "acceleration", "jerk", "tool", "turn", "elbow")),
        ]
        for name, found in robots.items()
    ]  # fmt: skip
    kinds = sorted({kind for found in robots.values() for kind in found["interventions"]})
    pushed = [
        [kind, *(f"{found['interventions'].get(kind, 0):,}" for found in robots.values())] for kind in kinds
    ]
    return [
        Rows("Judged; greatest values as shares of the applied limits", heads, cells),
        Rows("Ticks with an intervention", ["", *robots], pushed),
    ]


def _peak(found: Document, kind: str) -> str:
    """Results of before tool, turning and elbow were judged have no peaks of them."""
    peak = found.get(f"peak_{kind}")
    return "-" if peak is None else f"{peak:.6f}"


Maker = Callable[[Document], list[Rows]]
MAKERS: dict[str, Maker | str] = {
    "adversary": adversary_rows,
    "chunk_execution": chunk_rows,
    "graph": graph_rows,
    "safety_cycle": safety_rows,
    **{f"eval_{robot}{late}": eval_rows for robot in ("panda", "widowx", "ur5") for late in ("", "_delay")},
    "replay_bridge": replay_rows,
    "policy_latency": "policy_latency:rows",
    "octo_cpu": "octo_cpu:rows",
    "audit": "data_tables:audit_rows",
    "conversion": "data_tables:conversion_rows",
    "demonstrations": "demonstrations:rows",
    "recording": "data_tables:recording_rows",
    "scripted": "scripted:rows",
    "first_day": "first_day.rows:rows",
    "launch_lines": "launch_lines:rows",
    "one_step": "one_step:rows",
    "replay_speed": "replay_speed:rows",
    "speed_limits": "speed_limits:rows",
    "starts": "starts:rows",
}
"""By the name of a result: what makes its tables, or the module and function that does."""


def with_results(text: str, results: Path = RESULTS) -> str:
    """The document's text with the tables of every result that has a place in it."""
    for name, maker in MAKERS.items():
        path = results / f"{name}.json"
        pattern = re.compile(_MARKED.format(name=name), re.DOTALL)
        if not path.exists() or not pattern.search(text):
            continue
        make = _loaded(maker) if isinstance(maker, str) else maker
        document = json.loads(path.read_text(encoding="utf-8"))
        head = [_head(document)] if "machine" in document else []
        body = "\n\n".join([*head, *(rows.markdown() for rows in make(document))])
        text = pattern.sub(lambda match, body=body: f"{match[1]}{body}\n{match[2]}", text)
    return text


def _loaded(maker: str) -> Maker:
    module, name = maker.split(":")
    found: Maker = getattr(import_module(f"benchmarks.{module}"), name)
    return found


def _head(document: Document) -> str:
    machine, versions = document["machine"], document["versions"]
    runs = document.get("runs", {"count": 1})
    median = f" Run {runs['shown']} of {runs['count']}, the median one." if runs["count"] > 1 else ""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "commit")
    return (
        f"Measured {document['date']} with `{document['command']}` on {machine['cores']} cores "
        f"({machine['cpu']}), Linux {machine['kernel']}, load {machine['load_before']:g} before; {packages}; "
        f"commit {versions['commit']}.{median}"
    )


def _summaries(title: str, found: Mapping[str, Mapping[str, float | None]]) -> Rows:
    heads = list(next(iter(found.values())))
    cells = [[name, *(_number(values[head]) for head in heads)] for name, values in found.items()]
    return Rows(title, ["", *heads], cells)


def _number(value: float | None) -> str:
    if value is None or value != value:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}".rstrip("0").rstrip(".")


def main() -> None:
    """Write the committed results into the document."""
    for document in DOCUMENTS:
        document.write_text(with_results(document.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
