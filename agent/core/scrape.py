"""What `/metrics` reads from the database: a few counts, each by an index, at most every `FRESH_S`.

Nothing here grows with the history: open actions are counted, ended ones are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from agent.core.events.reading import head_of, pruned_up_to
from agent.core.store.port import Store
from agent.core.store.schema import (
    actions,
    agents,
    approvals,
    timers,
    webhook_failures,
    webhooks,
)
from agent.domain.definition import ApprovalState
from agent.domain.lifecycle import ExecutionStatus

FRESH_S = 5.0  # whoever scrapes more often gets the same counts again
OPEN = (ExecutionStatus.NULL.value, ExecutionStatus.STARTED.value)
CONNECTED, SILENT, DECOMMISSIONED = "connected", "silent", "decommissioned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The database's part of an exposition."""

    newest_event: int
    pruned_up_to: int
    nodes: Mapping[str, int]
    actions_open: Mapping[str, int]
    approvals_pending: int
    timers: Mapping[str, int]
    webhooks: Mapping[str, int]
    webhook_behind: Mapping[str, int]
    dead_letters: int


def count_all(connection: Connection) -> Counted:
    """Read everything, in one snapshot."""
    head = head_of(connection)
    hooks = connection.execute(select(webhooks.c.id, webhooks.c.enabled, webhooks.c.cursor)).all()
    enabled = sum(1 for hook in hooks if hook.enabled)
    return Counted(
        newest_event=head,
        pruned_up_to=pruned_up_to(connection),
        nodes=_nodes(connection),
        actions_open={status: _of_status(connection, status) for status in OPEN},
        approvals_pending=_count(
            connection, approvals.c.state, approvals.c.state == ApprovalState.PENDING.value
        ),
        timers=_timers(connection),
        webhooks={"enabled": enabled, "disabled": len(hooks) - enabled},
        webhook_behind={hook.id: max(0, head - hook.cursor) for hook in hooks if hook.enabled},
        dead_letters=_count(connection, webhook_failures.c.row),
    )


def _count(connection: Connection, column: object, *where: object) -> int:
    query = select(func.count(column)).where(*where)  # type: ignore[arg-type]
    return connection.execute(query).scalar() or 0


def _of_status(connection: Connection, status: str) -> int:
    return _count(connection, actions.c.row, actions.c.status == status)


def _nodes(connection: Connection) -> Mapping[str, int]:
    gone = _count(connection, agents.c.decommissioned_at)
    there = agents.c.decommissioned_at.is_(None)
    silent = _count(connection, agents.c.silent_at, there)
    everybody = connection.execute(select(func.count()).select_from(agents)).scalar() or 0
    return {SILENT: silent, DECOMMISSIONED: gone, CONNECTED: everybody - gone - silent}


def _timers(connection: Connection) -> Mapping[str, int]:
    query = select(timers.c.kind, func.count()).group_by(timers.c.kind)
    return {row.kind: row[1] for row in connection.execute(query)}


class Scrape:
    """Counts, and remembers them for a moment."""

    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._counted: Counted | None = None
        self._at_s = 0.0

    async def counted(self) -> Counted:
        """The counts, at most `FRESH_S` old."""
        now_s = self._monotonic()
        if self._counted is None or now_s - self._at_s >= FRESH_S:
            self._counted = await self._store.read(count_all)
            self._at_s = now_s
        return self._counted
