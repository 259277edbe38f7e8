"""Lines of a terminal as values: text, and a style for the eye that the text never depends on.

Pure. A line is cut to its width by what a terminal shows, not by characters: some are two wide.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.cli.tables import text

PLAIN, TITLE, GOOD, WARN, BAD, DIM = "", "title", "good", "warn", "bad", "dim"
_CODES: Mapping[str, str] = {TITLE: "1", GOOD: "32", WARN: "33", BAD: "1;31", DIM: "2"}
GAP = 2
CELL_WIDTH_MIN = 8
ID_WIDTH_READABLE = 20
CELL_WIDTH_READABLE = 14  # below that a column of less weight goes instead


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `style` is one of the words above."""

    text: str
    style: str = PLAIN

    def shown(self, width: int | None, *, colours: bool) -> str:
        """As it is written: at most `width` columns wide, control characters made harmless."""
        plain = text(self.text).replace("\n", " ").rstrip()
        cut = plain if width is None else fit(plain, width)
        code = _CODES.get(self.style)
        return f"\x1b[{code}m{cut}\x1b[0m" if colours and code and cut else cut


def width_of(value: str) -> int:
    """Columns that a terminal needs for it."""
    if value.isascii():
        return len(value)
    return sum(_columns(char) for char in value)


def fit(value: str, width: int) -> str:
    """Cut to so many columns, with `…` where something is missing."""
    if width_of(value) <= width:
        return value
    kept, used = [], 0
    for char in value:
        used += _columns(char)
        if used > width - 1:
            break
        kept.append(char)
    return "".join(kept) + "…" if width > 0 else ""


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def wrapped(line: Line, width: int, indent: int) -> list[Line]:
    """The line on as many lines as it needs, from the second on behind `indent` spaces."""
    if width_of(line.text) <= width:
        return [line]
    import textwrap  # noqa: PLC0415  (a wide terminal never needs it)

    parts = textwrap.wrap(line.text, width, subsequent_indent=" " * min(indent, width // 2))
    return [Line(part, line.style) for part in parts]


def middle_cut(value: str, width: int) -> str:
    """An id cut to so many columns: its end tells more than its middle.

    >>> middle_cut("backup@2026-01-15T03:00:00Z", 16)
    'backup@…3:00:00Z'
    """
    if len(value) <= width:
        return value
    tail = width // 2
    return (
        f"{value[: width - tail - 1]}…{value[len(value) - tail :]}" if width > 2 else value[:width]
    )


def aligned(
    rows: Sequence[Sequence[str]], width: int | None, *, drop: Iterable[int] = (),
    rigid: Iterable[int] = (), ids: int | None = None,
) -> list[str]:  # fmt: skip
    """Columns side by side. Too wide: columns go in the order of `drop` until the others have
    room, then the widest shrink, but `rigid` ones. Column `ids` is cut in its middle.
    """
    if not rows:
        return []
    cells = [[text(cell).replace("\n", " ") for cell in row] for row in rows]
    kept = [at for at in range(len(cells[0])) if any(row[at] for row in cells)]
    widths = {at: max(width_of(row[at]) for row in cells) for at in kept}
    if width is not None:
        for at in drop:
            if _least(widths, set(rigid), ids) <= width:
                break
            widths.pop(at, None)
        _squeeze(widths, width, {at: _floor(at, ids) for at in widths if at not in set(rigid)})
        _squeeze(widths, width, {at: CELL_WIDTH_MIN for at in widths if at not in set(rigid)})
    return [
        (" " * GAP)
        .join(
            _padded(middle_cut(row[at], wide) if at == ids else fit(row[at], wide), wide)
            for at, wide in widths.items()
        )
        .rstrip()
        for row in cells
    ]


def _least(widths: Mapping[int, int], rigid: set[int], ids: int | None) -> int:
    """How narrow the columns can become and still be read."""
    least = sum(wide if at in rigid else min(wide, _floor(at, ids)) for at, wide in widths.items())
    return least + GAP * (len(widths) - 1)


def _floor(at: int, ids: int | None) -> int:
    return ID_WIDTH_READABLE if at == ids else CELL_WIDTH_READABLE


def _squeeze(widths: dict[int, int], width: int, floors: Mapping[int, int]) -> None:
    while sum(widths.values()) + GAP * (len(widths) - 1) > width:
        soft = [at for at, floor in floors.items() if widths[at] > floor]
        if not soft:
            return  # what is still too wide is cut at the end of the line
        widths[max(soft, key=widths.__getitem__)] -= 1


def _padded(value: str, width: int) -> str:
    return value + " " * (width - width_of(value))
