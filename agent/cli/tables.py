"""Plain aligned text for a terminal: tables and pairs. Nothing is coloured.

On a terminal lines are cut to its width; into a pipe everything is written whole.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

GAP = "  "
COLUMN_CHARS_MIN = 8


def width_of_output() -> int | None:
    """Columns of the terminal, or None where output is no terminal."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else None


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], width: int | None = None) -> str:
    """Left-aligned columns; the widest one gives way until a line fits into `width`."""
    lines = [list(headers)] + [[text(cell) for cell in row] for row in rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(headers))]
    if width is not None:
        widths = _squeezed(widths, width - len(GAP) * (len(widths) - 1))
    return "\n".join(_line(line, widths) for line in lines)


def pairs(items: Iterable[tuple[str, Any]]) -> str:
    """`name  value` lines, the values aligned; names without a value are left out."""
    shown = [(name, text(value)) for name, value in items if value not in (None, "", [], {})]
    widest = max((len(name) for name, _ in shown), default=0)
    return "\n".join(
        f"{name:<{widest}}{GAP}" + value.replace("\n", f"\n{' ' * widest}{GAP}")
        for name, value in shown
    )


def text(value: Any) -> str:
    """A cell; control characters cannot reach the terminal."""
    if value is None:
        return "-"
    raw = value if isinstance(value, str) else str(value)
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in raw)


def _squeezed(widths: list[int], available: int) -> list[int]:
    widths = list(widths)
    while sum(widths) > available:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= COLUMN_CHARS_MIN:
            break
        widths[widest] -= 1
    return widths


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    cut = [
        cell if len(cell) <= width else cell[: width - 1] + "…"
        for cell, width in zip((c.replace("\n", " ") for c in cells), widths, strict=True)
    ]
    return GAP.join(f"{cell:<{width}}" for cell, width in zip(cut, widths, strict=True)).rstrip()
