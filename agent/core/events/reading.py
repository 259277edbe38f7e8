"""Reading the one stream of events, in the order of its numbers: the only place that does.

Several writers may commit out of order, so nothing is read beyond what is settled. What retention
took is known by a mark: whoever asks on from below it is told that there is a hole (`Gone`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select
from sqlalchemy.engine import Connection

from agent.core.store.horizon import settled_up_to
from agent.core.store.port import AnyRow
from agent.core.store.schema import events, meta
from agent.domain.errors import Refused

PRUNED_KEY = "events_pruned"  # in `meta`: the highest number that retention took

_PAGE = (
    select(events)
    .where(events.c.id > bindparam("after"), events.c.id <= bindparam("up_to"))
    .order_by(events.c.id)
    .limit(bindparam("most"))
)
_PAGE_OF_NODE = _PAGE.where(events.c.agent_id == bindparam("node"))
_NEWEST = select(func.max(events.c.id))
_PRUNED = select(meta.c.value).where(meta.c.key == PRUNED_KEY)


class Gone(Refused):
    """The cursor names a place that is not here; `expected` is the oldest that is kept."""

    def __init__(self, message: str, oldest: int) -> None:
        super().__init__("gone", message)
        self.expected = oldest


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some events in order. `reached` is the number to read on from, `head` the newest settled."""

    rows: Sequence[AnyRow]
    reached: int
    head: int
    is_unsettled: bool = False
    """Newer ones can be seen already, behind a writer that is still running."""
    is_shared: bool = False
    """Other processes write too, and one that is killed may not have told of its last commit."""


def read_after(connection: Connection, after: int, limit: int, node: str | None = None) -> Stretch:
    """What follows `after`, of one node if it is named; what was pruned is not asked for."""
    settled = settled_up_to(connection)  # first: what it says is true of a later snapshot only
    newest = connection.execute(_NEWEST).scalar() or 0
    head = newest if settled is None else min(settled, newest)
    some = {"after": after, "up_to": head, "most": limit} | ({"node": node} if node else {})
    page = _PAGE_OF_NODE if node else _PAGE
    rows = connection.execute(page, some).all() if head > after else []
    reached = rows[-1].id if len(rows) == limit else max(after, head)
    return Stretch(rows, reached, head, is_unsettled=newest > head, is_shared=settled is not None)


def require_kept(connection: Connection, after: int) -> int:
    """Where to read on from: `after`, or the beginning of what is kept for 0. Raises `Gone`."""
    pruned = pruned_up_to(connection)
    if after == 0:
        return pruned
    if after < pruned:
        raise Gone(
            f"the events after {after} are no longer kept; the oldest kept is {pruned + 1}: read "
            f"what you need anew from the lists, and go on with after={pruned}",
            pruned + 1,
        )
    newest = max(connection.execute(_NEWEST).scalar() or 0, pruned)
    if after > newest:
        raise Gone(
            f"there is no event {after} here, the newest is {newest}: the core was restored from "
            f"a backup, or this is another one; read what you need anew, and go on with "
            f"after={newest}",
            pruned + 1,
        )
    return after


def pruned_up_to(connection: Connection) -> int:
    """The highest number that retention took, 0 before it took any."""
    return int(connection.execute(_PRUNED).scalar() or 0)


def head_of(connection: Connection) -> int:
    """The newest settled number: "from now on" begins behind it."""
    settled = settled_up_to(connection)
    newest = max(connection.execute(_NEWEST).scalar() or 0, pruned_up_to(connection))
    return newest if settled is None else min(settled, newest)
