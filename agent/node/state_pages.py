"""Everything a node has, in pages: its actions by row, then its recurring actions by id.

One cursor goes through both, so that whoever reads to the end has missed nothing that stood there
when the reading began.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from agent.domain.action import Action
from agent.domain.recurring import Recurring
from agent.node.store import recurring
from agent.node.store.pages import Query, cursor_behind, page

_RULES = "r:"  # no cursor of actions begins with a letter


@dataclass(frozen=True, slots=True)
class StatePage:
    """Some of it; `next` goes on, None at the end."""

    actions: list[Action]
    rules: list[Recurring]
    next: str | None


def state_page(connection: sqlite3.Connection, after: str | None, limit: int) -> StatePage:
    """The next page. Raises `InvalidDocument` for a cursor that is none."""
    if after is not None and after.startswith(_RULES):
        return _rules(connection, after.removeprefix(_RULES), limit)
    found = page(connection, Query(limit=limit, after=after))
    if found.next is not None:
        return StatePage(found.actions, [], found.next)
    return StatePage(found.actions, [], _RULES if recurring.is_any(connection) else None)


def _rules(connection: sqlite3.Connection, after: str, limit: int) -> StatePage:
    found, more = recurring.page(connection, after, limit)
    return StatePage([], found, behind(found[-1]) if more else None)


def behind(last: Action | Recurring) -> str:
    """The cursor that continues after this one."""
    return f"{_RULES}{last.id}" if isinstance(last, Recurring) else cursor_behind(last)
