"""Plain aligned text for a terminal: tables, pairs and sentences. Nothing is coloured.

On a terminal everything fits its width and nothing is cut: free text is wrapped inside its column,
and a row without enough room goes on in the next line, indented. An id, an instant or a state is
never taken apart, so that it can be copied. Into a pipe each row is one whole line, for `grep`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

GAP = "  "
FLOW_CHARS_MIN = 24  # narrower, free text gets a line of its own instead
CONTINUED = "    "


def width_of_output() -> int | None:
    """Columns of the terminal, or None where output is no terminal."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else None


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Any]], width: int | None = None, *,
    flow: Collection[str] = (),
) -> str:  # fmt: skip
    """Left-aligned columns; those whose header is in `flow` hold free text, which may wrap."""
    lines = [list(headers)] + [[_flat(cell) for cell in row] for row in rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(headers))]
    if width is None:
        return "\n".join(_beside(line, range(len(headers)), widths)[0] for line in lines)
    soft = {at for at, name in enumerate(headers) if name in flow}
    groups = _groups(widths, soft, width)
    for number, group in enumerate(groups):
        room = width - (len(CONTINUED) if number else 0) - len(GAP) * (len(group) - 1)
        _squeeze(widths, group, soft, room)
    return "\n".join(
        ("" if not number else CONTINUED) + part
        for line in lines
        for number, group in enumerate(groups)
        for part in _beside(line, group, widths)
        if not number or part
    )


def pairs(items: Iterable[tuple[str, Any]]) -> str:
    """`name  value` lines, the values aligned; names without a value are left out."""
    shown = [(name, text(value)) for name, value in items if value not in (None, "", [], {})]
    widest = max((len(name) for name, _ in shown), default=0)
    return "\n".join(
        f"{name:<{widest}}{GAP}" + value.replace("\n", f"\n{' ' * widest}{GAP}")
        for name, value in shown
    )


def sentence(value: str, width: int | None, *, first: str = "", rest: str = "") -> list[str]:
    """Free text on as many lines as it needs, behind `first`, then `rest`; one if no terminal."""
    flat = _flat(value)
    if width is None or len(first) + len(flat) <= width:
        return [f"{first}{flat}"]
    parts = _wrap(flat, max(1, width - max(len(first), len(rest))))
    return [f"{rest if at else first}{part}" for at, part in enumerate(parts)]


def text(value: Any) -> str:
    """A cell; control characters cannot reach the terminal."""
    if value is None:
        return "-"
    raw = value if isinstance(value, str) else str(value)
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in raw)


def _flat(value: Any) -> str:
    return text(value).replace("\n", " ")


def _groups(widths: Sequence[int], soft: Collection[int], width: int) -> list[list[int]]:
    """Which columns stand beside each other: as many as can be read in that width."""
    groups: list[list[int]] = [[]]
    used = 0
    for at, wide in enumerate(widths):
        least = min(wide, FLOW_CHARS_MIN) if at in soft else wide
        if groups[-1] and used + len(GAP) + least > width:
            groups.append([])
            used = len(CONTINUED)
        used += least + (len(GAP) if groups[-1] else 0)
        groups[-1].append(at)
    return groups


def _squeeze(widths: list[int], group: Iterable[int], soft: Collection[int], room: int) -> None:
    """The widest free text of the line gives way until the line fits."""
    group = list(group)
    while sum(widths[at] for at in group) > room:
        able = [at for at in group if at in soft and widths[at] > FLOW_CHARS_MIN]
        if not able:
            return  # one that fits nowhere: the terminal goes on in its next line, whole
        widths[max(able, key=widths.__getitem__)] -= 1


def _beside(cells: Sequence[str], group: Iterable[int], widths: Sequence[int]) -> list[str]:
    """One line of columns, or as many as its free text needs."""
    group = list(group)
    columns = [
        _wrap(cells[at], widths[at]) if len(cells[at]) > widths[at] else [cells[at]] for at in group
    ]
    height = max(len(column) for column in columns)
    return [
        GAP.join(
            f"{column[row] if row < len(column) else '':<{widths[at]}}"
            for at, column in zip(group, columns, strict=True)
        ).rstrip()
        for row in range(height)
    ]


def _wrap(value: str, width: int) -> list[str]:
    """At words; a longer word stays whole, so that an id or a path can still be copied."""
    import textwrap  # noqa: PLC0415  (a wide terminal never needs it)

    wrapped = textwrap.wrap(value, width, break_long_words=False, break_on_hyphens=False)
    return wrapped or [""]
