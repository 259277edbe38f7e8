"""The figures as a text table, as Markdown for the documentation, and as its picture (SVG)."""

from __future__ import annotations

from html import escape
from pathlib import Path

from figures import Section
from systems import OURS

BEGIN, END = "<!-- figures: written by scripts/bench --write-docs -->", "<!-- end of figures -->"
WIDTH, LABEL, BAR_H, GAP, HEAD = 760, 150, 22, 8, 34
_STYLE = (
    "text{font:13px sans-serif;fill:#222}.title{font-weight:bold}.ours{fill:#2a6f97}"
    ".other{fill:#b8c4cc}rect.page{fill:#fff}"
)


def as_text(section: Section) -> str:
    """A table for a terminal, with its targets."""
    head = ["", *section.columns]
    rows = [[name, *cells] for name, cells in section.rows.items()]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [f"\n{section.name}: {section.title}"]
    for row in [head, *rows]:
        first = row[0].ljust(widths[0])
        lines.append("  " + "   ".join([first, *_right(row[1:], widths[1:])]))
    lines += [f"  {target.line()}" for target in section.targets]
    lines += [f"  {note}" for note in section.notes]
    return "\n".join(lines)


def as_markdown(section: Section) -> str:
    """The same for the documentation."""
    head = ["", *section.columns]
    lines = [f"### {section.title[0].upper()}{section.title[1:]}", ""]
    lines += [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name, cells in section.rows.items():
        shown = f"**{name}**" if name.startswith(OURS) else name
        lines.append(f"| {' | '.join([shown, *cells])} |")
    lines.append("")
    lines += [f"- {target.line().strip()}" for target in section.targets]
    lines += [f"- {note}" for note in section.notes]
    return "\n".join([*lines, ""])


def write_docs(docs: Path, sections: list[Section], machine: str) -> None:
    """Replace the figures between the marks of docs/benchmarks.md, and the picture."""
    page = docs / "benchmarks.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    figures = "\n".join(as_markdown(section) for section in sections)
    page.write_text(f"{before}{BEGIN}\n{machine}\n\n{figures}{END}{after}")
    (docs / "benchmarks.svg").write_text(picture(sections))


def picture(sections: list[Section]) -> str:
    """Bars for every section that has any."""
    parts: list[str] = []
    y = 10
    for section in sections:
        if not section.bars:
            continue
        parts.append(_text(10, y + 16, section.bars_title, "title"))
        y += HEAD - GAP
        longest = max(section.bars.values())
        for name, value in section.bars.items():
            length = max(2.0, value / longest * (WIDTH - LABEL - 90))
            look = "ours" if name == OURS else "other"
            shown = f"{value:.0f}" if value >= 100 else f"{value:.1f}"
            size = f'width="{length:.0f}" height="{BAR_H - 4}"'
            parts.append(_text(10, y + 15, name))
            parts.append(f'<rect class="{look}" x="{LABEL}" y="{y}" {size}/>')
            parts.append(_text(LABEL + length + 8, y + 15, shown))
            y += BAR_H
        y += 2 * GAP
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}"'
        f' height="{y}" role="img" aria-label="Benchmarks: agentd beside its peers">\n'
        f"<style>{_STYLE}</style>\n"
        f'<rect class="page" width="{WIDTH}" height="{y}"/>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, look: str = "") -> str:
    css = f' class="{look}"' if look else ""
    return f'<text{css} x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>'


def _right(cells: list[str], widths: list[int]) -> list[str]:
    return [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
