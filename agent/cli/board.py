"""The board of `agentctl status --watch`: a snapshot laid out for a screen of any size.

Pure: snapshot, clock and size in, lines out. On a small screen every list is cut, with its rest
counted; nothing scrolls away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from agent.cli.bars import BAR_CELLS, meter
from agent.cli.lines import BAD, DIM, GOOD, PLAIN, TITLE, WARN, Line, aligned, wrapped
from agent.cli.snapshot import Snapshot
from agent.cli.status_lines import MARGIN, facts
from agent.cli.times import age_s, relative, span

BAR_CELLS_OF_WIDTH = ((100, BAR_CELLS), (64, 12), (0, 6))  # from this width on: so many
QUIET_LINES_MIN = 2  # headline and counts stay on the smallest screen
INDENT = "  "
LISTS_SHARE = ((0, 0.4), (1, 0.15), (2, 0.2), (3, 0.25))  # running, waiting, next, ended
_STYLE_OF_STATUS = {"FINISHED": GOOD, "FAILED": BAD, "WONT_FINISH": WARN, "WONT_START": WARN}


def board(
    seen: Snapshot, now: datetime, width: int | None = None, height: int | None = None,
    *, foot: str = "",
) -> list[Line]:  # fmt: skip
    """All lines; `height` None: as many as there are."""
    lines = _head(seen, now, width, height)
    room = None if width is None else width - len(INDENT)
    running, queued = seen.status["running"], seen.status["queued"]
    lists: list[tuple[str, int, Sequence[Mapping[str, Any]], Callable[..., list[Line]]]] = [
        ("RUNNING", len(running), running, running_rows),
        ("WAITING", queued, seen.waiting, waiting_rows),
        ("NEXT", 0, seen.upcoming, upcoming_rows),
        ("LAST ENDED", 0, seen.ended, ended_rows),
    ]
    used = len(lines) + bool(foot)
    shares = _shares([len(items) for _, _, items, _ in lists], height, used)
    for (title, total, items, rows), share in zip(lists, shares, strict=True):
        if items and share:
            more = f", {share} of {total}" if share < total else ""
            lines.append(Line(title + more, TITLE))
            lines += rows(items[:share], now, room)
    if height is not None:
        lines = lines[: max(1, height - bool(foot))]
    return [*lines, Line(foot, DIM)] if foot and height != 1 else lines


def _head(seen: Snapshot, now: datetime, width: int | None, height: int | None) -> list[Line]:
    """What is said of the node; on a small screen only what is not as it should be."""
    lines = list(facts(seen.status, now, seen.away_since))
    if seen.problem:
        lines.append(Line(f"  {seen.problem}", WARN))
    whole = _wrapped(lines, width)
    if height is None or len(whole) <= height // 2:
        return whole
    rest = [line for line in lines[QUIET_LINES_MIN:] if line.style in (WARN, BAD)]
    return _wrapped(lines[:QUIET_LINES_MIN] + rest, width)[: max(1, height * 2 // 3)]


def _wrapped(lines: Sequence[Line], width: int | None) -> list[Line]:
    if width is None:
        return list(lines)
    return [part for line in lines for part in wrapped(line, width, MARGIN)]


def _shares(sizes: Sequence[int], height: int | None, used: int) -> list[int]:
    """Rows for each list: its share of the screen, and what others leave over.

    A list that has no room for its title and a row is left out, the last one first.
    """
    if height is None:
        return list(sizes)
    wanted = list(sizes)
    while any(wanted) and height - used < 2 * sum(1 for size in wanted if size):
        wanted[max(at for at, size in enumerate(wanted) if size)] = 0
    free = height - used - sum(1 for size in wanted if size)
    shares = [min(wanted[at], max(1, int(free * part))) for at, part in LISTS_SHARE]
    while sum(shares) > free:
        shares[max(range(len(shares)), key=shares.__getitem__)] -= 1
    while sum(shares) < free and shares != wanted:
        shares[max(range(len(wanted)), key=lambda at: wanted[at] - shares[at])] += 1
    return shares


def running_rows(
    items: Sequence[Mapping[str, Any]], now: datetime, width: int | None
) -> list[Line]:
    """Id, kind, progress, how long already, what the script says."""
    cells = next(many for least, many in BAR_CELLS_OF_WIDTH if width is None or width >= least)
    rows = []
    for one in items:
        progress = one.get("progress") or {}
        elapsed_s = max(0.0, age_s(one["started_at"], now))
        attempt = f" #{one['attempt']}" if one["attempt"] > 1 else ""
        how = meter(progress.get("percent"), cells)
        if one.get("stopping"):
            how = f"stopping: {one['stopping']}"
        said = progress.get("message") or ""
        rows.append([one["id"], one["kind"] + attempt, how, f"{span(elapsed_s):>11}", said])
    styles = [WARN if one.get("stopping") else PLAIN for one in items]
    return _styled(aligned(rows, width, drop=(4, 1), rigid=(2, 3), ids=0), styles)


def waiting_rows(
    items: Sequence[Mapping[str, Any]], now: datetime, width: int | None
) -> list[Line]:
    """What is due and does not run yet."""
    rows = [
        [one["id"], one["kind"], f"due {relative(one['due_at'], now)}",
         one.get("waits_for") or one.get("reason") or ""]
        for one in items
    ]  # fmt: skip
    return _styled(aligned(rows, width, drop=(3, 1), rigid=(2,), ids=0), [PLAIN] * len(rows))


def upcoming_rows(
    items: Sequence[Mapping[str, Any]], now: datetime, width: int | None
) -> list[Line]:
    """A countdown to each."""
    rows = [
        [f"{_countdown(one['starts_at'], now):>11}", one["id"], one["kind"],
         ", ".join(one.get("notes") or [])]
        for one in items
    ]  # fmt: skip
    return _styled(aligned(rows, width, drop=(3, 2), rigid=(0,), ids=1), [PLAIN] * len(rows))


def ended_rows(items: Sequence[Mapping[str, Any]], now: datetime, width: int | None) -> list[Line]:
    """How long ago, how, and why."""
    rows = [
        [f"{relative(one['ended_at'], now):>15}", one["phase"], one["id"], one["kind"], _why(one)]
        for one in items
    ]
    styles = [_STYLE_OF_STATUS.get(one["execution_status"], PLAIN) for one in items]
    return _styled(aligned(rows, width, drop=(3, 4), rigid=(0, 1), ids=2), styles)


def _countdown(instant: str, now: datetime) -> str:
    left_s = -age_s(instant, now)
    return f"in {span(left_s)}" if left_s > 0 else "now"


def _why(action: Mapping[str, Any]) -> str:
    reason = action.get("reason") or ""
    code = action.get("exit_code")
    return f"{reason} ({code})" if code else reason


def _styled(texts: Sequence[str], styles: Sequence[str]) -> list[Line]:
    return [Line(INDENT + text, style) for text, style in zip(texts, styles, strict=True)]


def as_block(lines: Sequence[Line]) -> Iterator[str]:
    """For a pipe: whole lines, no colour."""
    for line in lines:
        yield line.shown(None, colours=False)
