"""Whom a transaction wakes: rung after its commit, in this process and in every other `cored`.

What must not be missed even if this process dies right after the commit is announced inside the
transaction (PostgreSQL sends it with the commit). That makes commits queue for one another, so
the rest, such as the topics of every push of events, is told afterwards, many at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.engine import Connection

from agent.core.wakeups import Topic

CHANNEL = "cored"
PAYLOAD_BYTES_MAX = 7900  # PostgreSQL takes less than 8000
ORIGIN = "origin"  # in a connection's info: which process it belongs to
_ANNOUNCED = "announced"

_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', :payload)")
_NEED_NOT_BE_DURABLE = text("SET LOCAL synchronous_commit TO off")


def announce(connection: Connection, topics: Iterable[Topic]) -> None:
    """Wake who waits for these as soon as the transaction is committed."""
    found = list(topics)
    if not found:
        return
    announce_here(connection, found)
    if connection.dialect.name != "sqlite":
        _send(connection, found)


def announce_here(connection: Connection, topics: Iterable[Topic]) -> None:
    """The same, in this process alone: for what the others find by themselves in time."""
    connection.info.setdefault(_ANNOUNCED, []).extend(topics)


def taken_from(connection: Connection) -> list[Topic]:
    """What was announced on the connection since the last time it was asked; for the store."""
    found: list[Topic] = connection.info.pop(_ANNOUNCED, [])
    return found


def tell_others(connection: Connection, topics: Iterable[Topic]) -> None:
    """A transaction of its own that only wakes the other processes."""
    connection.execute(_NEED_NOT_BE_DURABLE)
    _send(connection, topics)


def _send(connection: Connection, topics: Iterable[Topic]) -> None:
    for payload in payloads(str(connection.info.get(ORIGIN, "")), topics):
        connection.execute(_NOTIFY, {"payload": payload})


def payloads(origin: str, topics: Iterable[Topic]) -> Iterator[str]:
    """The topics as messages that are short enough: a JSON list, the origin first."""
    empty = len(msgspec.json.encode([origin]))
    some: list[Any] = [origin]
    size = empty
    for topic in topics:
        more = len(msgspec.json.encode(topic)) + 1
        if size + more > PAYLOAD_BYTES_MAX and len(some) > 1:
            yield msgspec.json.encode(some).decode()
            some, size = [origin], empty
        some.append(topic)
        size += more
    if len(some) > 1:
        yield msgspec.json.encode(some).decode()


def read_payload(payload: str) -> tuple[str, list[Topic]]:
    """Who sent it, and what. Raises `ValueError` for what none of us has sent."""
    try:
        origin, *topics = msgspec.json.decode(payload)
        return str(origin), [(str(kind), str(ref)) for kind, ref in topics]
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise ValueError(f"not a notice of a cored: {error}") from None
