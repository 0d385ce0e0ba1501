"""`vla-ros bag audit`: every bag through the audit, a table, verdicts, a page with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from vla_ros.commands.safe_console import Console
from vla_ros.commands.shared import print_next, shown, write_json
from vla_ros.data.audit import (
    AuditRules,
    AuditSummary,
    BagAudit,
    EpisodeAudit,
    Finding,
    Level,
    audit_bag,
    load_rules,
)
from vla_ros.data.audit.audit import Visitor
from vla_ros.data.audit.finding import joined
from vla_ros.data.open import bags_in, discarded_in
from vla_ros.errors import DataError, VlaRosError

STYLES = {Level.PASS: "green", Level.WARN: "yellow", Level.FAIL: "red"}
WORDS = {Level.PASS: "usable", Level.WARN: "remarks", Level.FAIL: "not usable"}
FAILED = 1


def audit(
    paths: Sequence[Path], html: Path | None, json_path: Path | None, rules_path: Path | None,
    discarded: bool = False,
) -> int:  # fmt: skip
    """Audit bags and folders of bags; exit status 1 when any fails.  Raises `VlaRosError`.

    `discarded`: also those that a person discarded.
    """
    rules = load_rules(rules_path) if rules_path is not None else AuditRules()
    bags = [bag for path in paths for bag in find_bags(path, discarded)]
    left_out = 0 if discarded else sum(discarded_in(path) for path in paths)
    console = Console()
    audits: list[BagAudit] = []
    unreadable: list[str] = []
    pages: list[str] = []
    for bag in bags:
        visit: Visitor | None = None
        if html is not None:
            from vla_ros.evaluation.audit_page import episode_section

            def visit(look: object, episode: EpisodeAudit, bag: Path = bag) -> None:
                pages.append(episode_section(look, episode, bag))  # type: ignore[arg-type]

        try:
            audits.append(audit_bag(bag, rules, pictures=html is not None, visit=visit))
        except VlaRosError as error:
            unreadable.append(f"{shown(bag)}: not usable: {error}")
    summary = AuditSummary(audits, unreadable, left_out)
    if len(bags) > 1:
        console.print(_summary(audits))
    for result in audits:
        if len(bags) == 1:
            for episode in result.episodes.values():
                console.print(_checks(episode), soft_wrap=True)
        if len(bags) == 1 or result.level is not Level.PASS:
            _say(console, result)
    for sentence in unreadable:
        console.print(sentence, style="red", highlight=False, markup=False, soft_wrap=True)
    if len(bags) > 1 or left_out:
        advice = " --discarded audits them too." if left_out else ""
        console.print(summary.sentence() + advice, highlight=False, markup=False, soft_wrap=True)
    if json_path is not None:
        write_json(json_path, summary.to_json())
    if html is not None:
        from vla_ros.evaluation.audit_page import audit_page

        try:
            html.parent.mkdir(parents=True, exist_ok=True)
            html.write_text(audit_page(summary, rules, pages), encoding="utf-8")
        except OSError as error:
            raise DataError(f"{html} cannot be written: {error.strerror or error}.") from error
        console.print(f"The page is {shown(html)}.", highlight=False, soft_wrap=True)
    if summary.failed:
        return FAILED
    print_next(console, "vla-ros data convert", *paths, "SET --to lerobot")
    return 0


def find_bags(path: Path, discarded: bool = False) -> list[Path]:
    """The bag itself, or every bag in a folder of bags (and of folders of bags).  Raises `DataError`."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; a bag is a folder with an .mcap file, or that file.")
    if path.is_dir() and any(path.glob("*.db3")):
        return [path]  # the audit says why it is not read
    found = bags_in(path, discarded)
    if not found and (left := discarded_in(path)):
        raise DataError(f"{path} holds no bag but {left} discarded; --discarded audits them.")
    if not found:
        raise DataError(f"{path} is not a bag and holds none: no .mcap file in it or below it.")
    return found


def _summary(audits: Sequence[BagAudit]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("bag", "verdict", "episodes", "fail", "remarks", "steps", "seconds"):
        words = name in ("bag", "verdict")
        table.add_column(name, justify="left" if words else "right", overflow="fold", no_wrap=name != "bag")
    for result in audits:
        levels = [episode.level for episode in result.taken]
        table.add_row(
            "/".join(result.path.parts[-2:]),
            f"[{STYLES[result.level]}]{WORDS[result.level]}[/]",
            str(len(levels)),
            str(levels.count(Level.FAIL)),
            str(levels.count(Level.WARN)),
            str(sum(episode.steps for episode in result.taken)),
            f"{sum(episode.seconds for episode in result.taken):.1f}",
        )
    return table


def _say(console: Console, result: BagAudit) -> None:
    console.print(
        result.sentence().replace(str(result.path), shown(result.path), 1),
        style=STYLES[result.level], highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _checks(episode: EpisodeAudit) -> Table:
    """One row a check: its worst finding, and how many more findings it has."""
    title = f"episode {episode.episode_id}, {episode.steps} steps, {episode.seconds:.1f} s"
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("finding", overflow="fold")
    by_check: dict[str, list[Finding]] = {}
    for finding in episode.findings:
        by_check.setdefault(finding.check, []).append(finding)
    for check, findings in by_check.items():
        level = max(finding.level for finding in findings)
        mark = {Level.PASS: "pass", Level.WARN: "warn", Level.FAIL: "FAIL"}[level]
        told = [f for f in findings if f.level is level and (level is not Level.PASS or f is findings[0])]
        rest = len(findings) - len(told)
        text = joined(told, "\n") + (f" (+{rest} alike or better)" if rest else "")
        table.add_row(check, Text(mark, style=STYLES[level]), Text(text))
    return table
