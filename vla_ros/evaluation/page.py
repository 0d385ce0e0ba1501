"""The HTML of reports: one file, no scripts, nothing loaded from anywhere; light, dark and printed."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from vla_ros.evaluation.figures import PALETTE

_LIGHT = {
    "page": "#f5f6f9",
    "card": "#ffffff",
    "line": "#dfe3ea",
    "soft": "#5c6678",
    "good": "#23824f",
    "bad": "#b3202a",
    "warn": "#96690a",
}
_DARK = {
    "page": "#12151c",
    "card": "#1b1f29",
    "line": "#2d3341",
    "soft": "#9aa4b6",
    "good": "#4cc38a",
    "bad": "#ff7b7b",
    "warn": "#e8c14b",
}

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src 'self' file:"
"""Nothing may be fetched: said to the browser too."""
_RULES = """
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -0.01em }
h2 { font-size: 18px; margin: 0 0 4px }
h3 { font-size: 13px; margin: 14px 0 0; font-weight: 600 }
p { margin: 0 0 10px } .soft { color: var(--soft); font-size: 13px }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px;
  margin-top: 18px; break-inside: avoid-page }
section.long { break-inside: auto }
.task { display: grid; grid-template-columns: 92px 1fr auto; gap: 12px; padding: 9px 0; align-items: baseline;
  border-top: 1px solid var(--line) }
.task:first-of-type { border-top: 0 } .task b { display: block }
.tag { font-size: 12px; font-weight: 600; border-radius: 999px; padding: 2px 10px; text-align: center;
  border: 1px solid currentColor; white-space: nowrap }
.good { color: var(--good) } .bad { color: var(--bad) }
.cards { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin-top: 18px }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px }
.card span { display: block; font-size: 12px; color: var(--soft) }
.card b { font-size: 20px; font-variant-numeric: tabular-nums; font-weight: 600 }
.verdict { border-left: 5px solid currentColor; padding: 10px 14px; margin: 0 0 12px; font-weight: 600;
  background: color-mix(in srgb, currentColor 8%, transparent); border-radius: 0 8px 8px 0 }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums }
th { text-align: right; font-weight: 600; color: var(--soft); font-size: 12px; padding: 4px 10px 6px }
td { text-align: right; padding: 5px 10px; border-top: 1px solid var(--line) }
th:first-child, td:first-child, .words td, .words th { text-align: left; padding-left: 0 }
.words td.n, .words th.n { text-align: right; padding-left: 10px }
.wide { overflow-x: auto }
svg { width: 100%; height: auto; display: block; margin-top: 6px }
.stills { display: grid; grid-template-columns: 1fr 1fr; gap: 10px }
.stills img, video { width: 100%; border-radius: 6px; display: block }
video { margin-bottom: 10px; background: #000 }
.strip { display: flex; gap: 4px; overflow-x: auto; margin: 6px 0 } .strip figure { margin: 0; flex: 1 1 0 }
.strip img { width: 100%; min-width: 64px; border-radius: 4px; display: block }
.strip figcaption { font-size: 11px; color: var(--soft); text-align: center }
.warn { color: var(--warn) } ul.findings { list-style: none; padding: 0; margin: 0 0 10px; font-size: 13.5px }
ul.findings li { padding: 4px 0 4px 64px; border-top: 1px solid var(--line); position: relative }
ul.findings b { position: absolute; left: 0; width: 56px }
details { margin-top: 8px } summary { cursor: pointer; color: var(--soft); font-size: 13px }
pre { font-size: 12px; overflow-x: auto; background: var(--page); padding: 12px; border-radius: 6px }
@media (max-width: 640px) { .task, .stills { grid-template-columns: 1fr }
  .cards { grid-template-columns: 1fr 1fr } }
@media print { body { background: #fff; font-size: 11px } main { max-width: none; padding: 0 }
  section, .card { border-color: #ccc } video, details { display: none } }
"""


def page(title: str, subtitle: str, parts: Iterable[str]) -> str:
    """A whole page; `parts` are HTML already."""
    light = _variables({**{k: v[0] for k, v in PALETTE.items()}, **_LIGHT})
    dark = _variables({**{k: v[1] for k, v in PALETTE.items()}, **_DARK})
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>\n:root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        f"{_RULES}</style>\n</head>\n"
        f'<body>\n<main>\n<h1>{escape(title)}</h1>\n<p class="soft">{escape(subtitle)}</p>\n'
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, text: str, *parts: str, long: bool = False) -> str:
    """A block with a heading, a line of explanation and content; `long` ones may break over pages."""
    said = f'<p class="soft">{escape(text)}</p>' if text else ""
    kind = ' class="long"' if long else ""
    return f"<section{kind}>\n<h2>{escape(title)}</h2>\n{said}\n" + "\n".join(parts) + "\n</section>"


def missing(sentence: str) -> str:
    """What stands where nothing was recorded."""
    return f'<p class="soft">{escape(sentence)}</p>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table; the first `words` columns are text, the others numbers."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{'' if k < words else ' class=n'}>{escape(cell)}</{tag}>" for k, cell in enumerate(row)
        )

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table class="words"><thead><tr>{cells("th", head)}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def cards(items: Iterable[tuple[str, str]]) -> str:
    """Small boxes: a name and a figure each."""
    boxes = (f'<div class="card"><span>{escape(k)}</span><b>{escape(v)}</b></div>' for k, v in items)
    return '<div class="cards">' + "".join(boxes) + "</div>"


def picture(jpeg: bytes, label: str) -> str:
    """An embedded JPEG."""
    data = base64.b64encode(jpeg).decode("ascii")
    return f'<img alt="{escape(label, quote=True)}" src="data:image/jpeg;base64,{data}">'


def strip(pictures: Iterable[tuple[str, bytes]]) -> str:
    """Embedded JPEGs side by side, each with a word or two below it."""
    return (
        '<div class="strip">'
        + "".join(
            f"<figure>{picture(jpeg, text)}<figcaption>{escape(text)}</figcaption></figure>"
            for text, jpeg in pictures
        )
        + "</div>"
    )


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in colours.items())
