"""What a write holds while it decides, on a database with several writers at once.

SQLite has one writer: there all of this is nothing. On PostgreSQL a write that concerns a node
locks its row before it reads anything else of it, and several nodes in the order of their names;
`serialize` queues writers who have no row yet to lock (an id that is to be unique, the audit
chain). Order, so that nobody waits in a circle: names with `serialize`, then agents (all of them at
once), then rows of actions and questions, and the audit chain last. Whoever fires timers has their
rows before all of these, so nobody waits for a timer's row (`timers.arm`), and one transaction
fires timers of one kind. A group of pushes locks nodes in any order, since it takes only those
that are free (`admission.admit_known`). What was selected before the locks is looked at again
behind them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import json
from sqlalchemy import bindparam, collate, select, text
from sqlalchemy.engine import Connection

from agent.core.store.schema import agents

IDS_PER_QUERY = 500

# Built once: a statement costs more to build than to run.
_AGENT = select(agents.c.id).where(agents.c.id == bindparam("id")).with_for_update()
_AGENTS = (
    select(agents.c.id)
    .where(agents.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(collate(agents.c.id, "C"))  # as `sorted`, whatever the database's language is
    .with_for_update()
)
# One after the other, in the order of the list: a function's rows come as it makes them.
_LOCK = text(
    "SELECT pg_advisory_xact_lock(hashtextextended(value, 0)) "
    "FROM json_array_elements_text(CAST(:names AS json))"
)


def lock_agent(connection: Connection, agent_id: str) -> None:
    """Nobody else changes this node's rows until the commit."""
    if connection.dialect.name == "sqlite":
        return
    connection.execute(_AGENT, {"id": agent_id})


def lock_agents(connection: Connection, agent_ids: Iterable[str]) -> None:
    """The same for several, always in the same order."""
    if connection.dialect.name == "sqlite":
        return
    ordered: Sequence[str] = sorted(set(agent_ids))
    for start in range(0, len(ordered), IDS_PER_QUERY):
        some = ordered[start : start + IDS_PER_QUERY]
        connection.execute(_AGENTS, {"ids": some})


def serialize(connection: Connection, *names: str) -> None:
    """One writer at a time per name, until its commit."""
    if connection.dialect.name == "sqlite":
        return
    if names:
        connection.execute(_LOCK, {"names": json.encode(sorted(set(names))).decode()})


def share(connection: Connection, *names: str) -> None:
    """Beside others who share the name, but not beside one who has it by `serialize`."""
    if connection.dialect.name == "sqlite":
        return
    for name in sorted(set(names)):
        lock = text("SELECT pg_advisory_xact_lock_shared(hashtextextended(:name, 0))")
        connection.execute(lock, {"name": name})
