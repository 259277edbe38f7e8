"""How far the global stream of events is settled: nothing will ever appear at or below.

`events.id` comes from a sequence, and with several writers at once a higher number can be committed
before a lower one. So a writer leaves a mark before its first event: a shared advisory lock, held
until its end, that names the last number given out so far; all of its own are higher. A reader asks
for the last number given out, *then* for the lowest mark, *then* reads: whoever got a number at or
below the first has either ended (locks are released after the commit can be seen) or shows its
mark. SQLite has one writer, and there all of this is nothing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import CursorResult, Select, literal_column, text
from sqlalchemy.engine import Connection

MARK_CLASS = 0x45564E54  # "EVNT": the first key of the marks; no other lock of ours has two keys
_MARKED = "events_marked"
_HALF, _WHOLE = 2**31, 2**32  # the second key is an int4: the number modulo 2^32

_LAST = "COALESCE(pg_sequence_last_value('events_id_seq'), 0)"
_MARK = (
    f"pg_advisory_xact_lock_shared({MARK_CLASS}, "
    f"(((({_LAST}) + {_HALF}) % {_WHOLE}) - {_HALF})::int)::text"
)
_LEAVE_MARK = text(f"SELECT {_MARK}")
_LAST_GIVEN = text(f"SELECT {_LAST}")
_MARKS = text(
    "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' "
    f"AND objsubid = 2 AND classid = {MARK_CLASS} "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def before_events(connection: Connection) -> None:
    """Call before inserting into `events`; asked again in one transaction it costs nothing."""
    if connection.dialect.name == "sqlite":
        return
    if connection.info.get(_MARKED) is not connection.get_transaction():
        connection.execute(_LEAVE_MARK)
        _remember(connection)


def marking(query: Select[Any]) -> Select[Any]:
    """The query with the mark left on the way: the first statement of most writes saves one."""
    return query.add_columns(literal_column(_MARK).label(_MARKED))


def execute_marking(connection: Connection, query: Select[Any], values: Any) -> CursorResult[Any]:
    """Run what `marking` made; on PostgreSQL alone. A query without a row leaves no mark."""
    found = connection.execute(query, values)
    if found.rowcount > 0:
        _remember(connection)
    return found


def _remember(connection: Connection) -> None:
    # What is taken inside a savepoint goes with it: only the outermost is remembered.
    if not connection.in_nested_transaction():
        connection.info[_MARKED] = connection.get_transaction()


def settled_up_to(connection: Connection) -> int | None:
    """The highest number that events may be read up to; None: all that can be seen.

    Ask before reading events. A read that has begun begins anew with this, for its snapshot must
    be younger than the answer: what it reads from here on may be newer than what it read before.
    """
    if connection.dialect.name == "sqlite":
        return None
    last: int = connection.execute(_LAST_GIVEN).scalar_one()
    marks = connection.execute(_MARKS).scalars().all()
    raw = connection.connection
    if getattr(raw.driver_connection, "read_only", None):
        raw.rollback()  # the driver begins the next one, as read-only, with the next statement
    return min([last, *(_number_of(mark, last) for mark in marks)])


def _number_of(mark: int, last: int) -> int:
    """The number that a mark stands for: the one that is nearest to the last given out."""
    ahead = (mark - last) % _WHOLE
    return last + (ahead if ahead < _HALF else ahead - _WHOLE)
