"""What a write holds while it decides, on a database with several writers at once.

SQLite has one writer: there all of this is nothing. On PostgreSQL a write that concerns a node
locks its row before it reads anything else of it, and several nodes in the order of their names;
`serialize` queues writers who have no row yet to lock (an id that is to be unique, the audit
chain). Order, so that nobody waits in a circle: names with `serialize`, then agents, then rows of
actions, and the audit chain last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import select, text
from sqlalchemy.engine import Connection

from agent.core.store.schema import agents

IDS_PER_QUERY = 500


def lock_agent(connection: Connection, agent_id: str) -> None:
    """Nobody else changes this node's rows until the commit."""
    connection.execute(select(agents.c.id).where(agents.c.id == agent_id).with_for_update())


def lock_agents(connection: Connection, agent_ids: Iterable[str]) -> None:
    """The same for several, always in the same order."""
    if connection.dialect.name == "sqlite":
        return
    ordered: Sequence[str] = sorted(set(agent_ids))
    for start in range(0, len(ordered), IDS_PER_QUERY):
        some = ordered[start : start + IDS_PER_QUERY]
        query = select(agents.c.id).where(agents.c.id.in_(some)).order_by(agents.c.id)
        connection.execute(query.with_for_update())


def serialize(connection: Connection, *names: str) -> None:
    """One writer at a time per name, until its commit."""
    if connection.dialect.name == "sqlite":
        return
    for name in sorted(set(names)):
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
        connection.execute(lock, {"name": name})
