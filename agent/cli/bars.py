"""Progress as a bar of text. Pure."""

from __future__ import annotations

BAR_CELLS = 20


def bar(percent: float, cells: int = BAR_CELLS) -> str:
    """Of so many cells; outside 0-100 it is full or empty.

    >>> bar(40, 10)
    '[####......]'
    """
    full = round(max(0.0, min(100.0, percent)) / 100 * cells)
    return f"[{'#' * full}{'.' * (cells - full)}]"


def meter(percent: float | None, cells: int) -> str:
    """Bar and number; of a script that tells none, nothing."""
    return "" if percent is None else f"{bar(percent, cells)} {percent:3.0f} %"
