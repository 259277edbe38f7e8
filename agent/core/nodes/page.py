"""What one pull answers: a bounded page of the stream, or of everything (a *full* answer).

Several changes of one action collapse to its current definition. A page ends at a count or at a
number of bytes, whichever comes first, and its cursor goes on where it ended.

A full answer is everything that the core believes not to have started, every withdrawal that is
not yet confirmed, then every open request, in the order of rows, over as many pages as it takes.
Its base (the head of the stream when it began) travels in the cursor: what changes while the node
is reading it has a higher number, and follows after the last page. So nothing is lost, whatever
row it touches, and nothing is acknowledged before the node holds all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, exists, not_, or_, select
from sqlalchemy.engine import Connection

from agent.core.nodes.cursor import Cursor, List, Resume
from agent.core.nodes.stream import DEFINITION, REQUEST
from agent.core.store.port import AnyRow
from agent.core.store.schema import IS_OPEN, actions, deliveries, recurring, requests
from agent.domain.definition import Owner
from agent.domain.lifecycle import ExecutionStatus
from agent.wire.messages import PullAnswer, Request

ITEMS_MAX = 500
BYTES_MAX = 2 * 1024 * 1024
SCANNED_MAX = 5000  # deliveries looked at for one page; collapsed ones cost no item

_decode = msgspec.json.Decoder().decode

_REQUEST_COLUMNS = (
    requests.c.id.label("request_id"),
    requests.c.type,
    requests.c.action_id,
    requests.c.by,
    requests.c.reason,
    requests.c.args,
)


@dataclass(slots=True)
class Page:
    """A page being filled."""

    items_max: int = ITEMS_MAX
    bytes_max: int = BYTES_MAX
    actions: list[Any] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    size_bytes: int = 0

    def has_room(self, size_bytes: int) -> bool:
        """Whether one more fits; the first always does."""
        count = len(self.actions) + len(self.requests)
        return count == 0 or (
            count < self.items_max and self.size_bytes + size_bytes <= self.bytes_max
        )

    def add_definition(self, text: str) -> None:
        """Put a stored definition in."""
        self.actions.append(_decode(text))
        self.size_bytes += len(text)

    def add_request(self, row: AnyRow) -> None:
        """Put a stored request in."""
        self.requests.append(
            Request(
                id=row.request_id,
                type=row.type,
                action_id=row.action_id,
                by=row.by,
                reason=row.reason,
                args=_decode(row.args) if row.args else None,
            )
        )

    def answer(self, cursor: Cursor, *, full: bool) -> PullAnswer:
        """The page as the node gets it."""
        return PullAnswer(
            cursor=str(cursor), full=full, actions=self.actions, requests=self.requests
        )


def changes_page(
    connection: Connection, agent_id: str, after: Cursor, page: Page | None = None
) -> PullAnswer:
    """The next deliveries after the cursor."""
    page = page or Page()
    found = connection.execute(_deliveries_after(), {"agent": agent_id, "after": after.seq})
    try:
        seq, mark = take_changes(page, found, after.seq, after.mark)
    finally:
        found.close()
    return page.answer(Cursor(after.epoch, seq, mark), full=False)


def take_changes(page: Page, rows: Iterable[AnyRow], seq: int, mark: str) -> tuple[int, str]:
    """Fill the page from deliveries in order; returns the number and mark of the last one taken."""
    sent: set[str] = set()
    for row in rows:
        if row.what == DEFINITION and row.ref not in sent and row.definition is not None:
            if not page.has_room(len(row.definition)):
                break
            sent.add(row.ref)
            page.add_definition(row.definition)
        elif row.what == REQUEST and row.request_id is not None:
            if not page.has_room(0):
                break
            page.add_request(row)
        seq, mark = row.seq, row.mark
    return seq, mark


def full_page(
    connection: Connection,
    agent_id: str,
    base: Cursor,
    resume: Resume | None,
    page: Page | None = None,
) -> PullAnswer:
    """The next page of everything; `base` is where the stream goes on after the last one."""
    page = page or Page()
    place = resume or Resume(List.ACTIONS, 0)
    for part, row in _everything(connection, agent_id, place):
        size_bytes = len(row.definition) if part is List.ACTIONS else 0
        if not page.has_room(size_bytes):
            return page.answer(Cursor(base.epoch, base.seq, base.mark, place), full=True)
        if part is List.ACTIONS:
            page.add_definition(row.definition)
        else:
            page.add_request(row)
        place = Resume(part, row.row)
    return page.answer(Cursor(base.epoch, base.seq, base.mark), full=True)


def _everything(
    connection: Connection, agent_id: str, place: Resume
) -> Iterator[tuple[List, AnyRow]]:
    """Both lists from `place` on, read lazily."""
    if place.part is List.ACTIONS:
        values = {"agent": agent_id, "after": place.row}
        for row in connection.execute(_standing_actions(), values):
            yield List.ACTIONS, row
    # Last, so that a state which is asked for is sent with the cursor of a finished full answer.
    after_row = place.row if place.part is List.REQUESTS else 0
    for row in connection.execute(_open_requests(), {"agent": agent_id, "after": after_row}):
        yield List.REQUESTS, row


# Built once, each of them: every pull asks, and building costs more than asking.
_AGENT: Any = bindparam("agent")
_AFTER: Any = bindparam("after")


@cache
def _deliveries_after() -> Any:
    return (
        select(
            deliveries.c.seq,
            deliveries.c.mark,
            deliveries.c.what,
            deliveries.c.ref,
            actions.c.definition,
            *_REQUEST_COLUMNS,
        )
        .select_from(
            deliveries.outerjoin(
                actions,
                and_(
                    deliveries.c.what == DEFINITION,
                    actions.c.agent_id == deliveries.c.agent_id,
                    actions.c.id == deliveries.c.ref,
                    actions.c.owner == Owner.CORE.value,
                ),
            ).outerjoin(
                requests,
                and_(deliveries.c.what == REQUEST, requests.c.id == deliveries.c.ref),
            )
        )
        .where(deliveries.c.agent_id == _AGENT, deliveries.c.seq > _AFTER)
        .order_by(deliveries.c.seq)
        .limit(SCANNED_MAX)
    )


@cache
def _open_requests() -> Any:
    return (
        select(requests.c.row, *_REQUEST_COLUMNS)
        .where(
            requests.c.agent_id == _AGENT,
            requests.c.acked_at.is_(None),
            requests.c.row > _AFTER,
        )
        .order_by(requests.c.row)
        .limit(ITEMS_MAX + 1)
    )


@cache
def _standing_actions() -> Any:
    """What a node that knows nothing must be told.

    An action that got lost is not offered again: the core never starts anything a second time by
    itself. Its withdrawal is. Nor one that the node refused, which people took for over since; but
    a recurring action is for as long as it is wanted, and what was wrong there may be mended.
    """
    null = ExecutionStatus.NULL.value
    recurs = exists().where(recurring.c.id == actions.c.id)
    over = and_(actions.c.refused.is_not(None), actions.c.revision_applied.is_(None), ~recurs)
    return (
        select(actions.c.row, actions.c.definition)
        .where(
            actions.c.agent_id == _AGENT,
            IS_OPEN,  # as `actions_open` has it: not a node's whole history
            actions.c.owner == Owner.CORE.value,
            actions.c.definition.is_not(None),
            actions.c.delivered_seq.is_not(None),  # not an occurrence, which the node makes itself
            or_(
                actions.c.wanted.is_(False),
                and_(actions.c.status == null, actions.c.lost_at.is_(None), not_(over)),
            ),
            actions.c.row > _AFTER,
        )
        .order_by(actions.c.row)
        .limit(ITEMS_MAX + 1)
    )
