"""The audit log read back: pages of it, and whether its chain holds.

Each row's hash covers the one before, so a changed, removed, inserted or moved line shows where it
is, and everything after a line that somebody noted elsewhere can be held against that note: a
cursor is `ROW.HASH`, and presenting one asserts that this row is there with that hash.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection

from agent.core.people.audit import GENESIS, seal
from agent.core.store.port import AnyRow
from agent.core.store.schema import audit
from agent.domain.errors import Fault, InvalidDocument, shown
from agent.domain.instants import format_instant, to_us

VERIFIED_AT_ONCE = 10_000  # rows per request: a fifth of a second, and one reader thread for it
_CURSOR = re.compile(r"([0-9]{1,15})\.([0-9a-f]{64})\Z")
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Place:
    """One row of the log, as somebody noted it; row 0 is before the first."""

    row: int = 0
    hash: str = GENESIS

    def __str__(self) -> str:
        return f"{self.row}.{self.hash}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which lines of the log."""

    who: str | None = None
    what: str | None = None
    target: str | None = None
    limit: int = 100
    after: int = 0


def parse_place(text: str | None) -> Place:
    """A cursor. Raises `InvalidDocument`."""
    if text is None:
        return Place()
    found = _CURSOR.match(text)
    if found is None:
        raise InvalidDocument(
            [Fault("after", f"{shown(text)} is not ROW.HASH as this endpoint and `head` tell it")]
        )
    return Place(int(found[1]), found[2])


def page(connection: Connection, wanted: Wanted) -> dict[str, Any]:
    """Lines, newest first; `next` is the `after` of the next page."""
    query = select(audit)
    for column, value in (
        (audit.c.who, wanted.who),
        (audit.c.what, wanted.what),
        (audit.c.target, wanted.target),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.after:
        query = query.where(audit.c.row < wanted.after)
    rows = connection.execute(query.order_by(audit.c.row.desc()).limit(wanted.limit + 1)).all()
    return {
        "lines": [_document(row) for row in rows[: wanted.limit]],
        "next": str(rows[wanted.limit - 1].row) if len(rows) > wanted.limit else None,
    }


def verify(connection: Connection, after: Place, limit: int = VERIFIED_AT_ONCE) -> dict[str, Any]:
    """Check up to `limit` rows behind a place, and the place itself.

    `head` is the last row that is good, to note or to go on from; `next` the same while there is
    more. Stops at the first broken row.
    """
    broken = _missing(connection, after)
    if broken is not None:
        return _verdict(0, after, more=False, broken=broken)
    query = select(audit).where(audit.c.row > after.row).order_by(audit.c.row).limit(limit + 1)
    rows = connection.execute(query).all()
    head, checked = after, 0
    for row in rows[:limit]:
        why = _wrong_with(row, head)
        if why is not None:
            return _verdict(checked, head, more=False, broken={"row": row.row, "why": why})
        head, checked = Place(row.row, row.hash), checked + 1
    return _verdict(checked, head, more=len(rows) > limit, broken=None)


def _missing(connection: Connection, place: Place) -> dict[str, Any] | None:
    """What is wrong with the row that was presented."""
    if place == Place():
        return None
    found = connection.execute(select(audit.c.hash).where(audit.c.row == place.row)).scalar()
    if found is None:
        return {"row": place.row, "why": "the line that was noted is gone: the log was cut"}
    if found != place.hash:
        return {"row": place.row, "why": f"has the hash {found}, not the one that was noted"}
    return None


def _wrong_with(row: AnyRow, before: Place) -> str | None:
    if row.prev != before.hash:
        return (
            f"does not follow row {before.row}: a line between them was removed, inserted or moved"
        )
    sealed = seal(row.prev, to_us(row.at), row.who, row.what, row.target, row.detail)
    if row.hash != sealed:
        return "its hash is not that of its content: the line was changed"
    return None


def _verdict(
    checked: int, head: Place, *, more: bool, broken: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "ok": broken is None,
        "checked": checked,
        "head": str(head),
        "next": str(head) if more else None,
        "broken": broken,
    }


def _document(row: AnyRow) -> dict[str, Any]:
    return {
        "row": row.row,
        "at": format_instant(row.at),
        "who": row.who,
        "what": row.what,
        "target": row.target,
        "detail": _decode(row.detail),
        "hash": row.hash,
    }
