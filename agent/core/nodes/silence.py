"""A node that is not heard of: silent after a while, its started actions LOST after a longer one.

Both are durable facts that a timer brings about and the next sign of life takes back (DESIGN §7).
Nobody looks for silent nodes: each node in service has one timer, which is armed due at once and
set by whoever fires it to when the node would be silent if nothing more came. A core that was not
there to listen holds nothing against anybody: it counts from its own start at the earliest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from agent.core import journal, timers
from agent.core.nodes.presence import Presence
from agent.core.nodes.stream import ask_for_state
from agent.core.occasion import Occasion
from agent.core.store.locks import IDS_PER_QUERY, lock_agents
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions, agents
from agent.core.timers import TimerKind
from agent.core.wakeups import EVENTS, Topic, action_topic
from agent.domain.definition import Owner
from agent.domain.instants import format_instant, from_us, to_us
from agent.domain.lifecycle import ExecutionStatus

SILENT_AFTER_S = 150.0  # two fallback pulls of a minute, and the half minute that noting may lag
LOST_AFTER_S = 24 * 3600.0
TICK_S = 5  # timers of nodes fall due together: one wake-up for many
REASON_SILENT = "node_silent"
REASON_DECOMMISSIONED = "node_decommissioned"

_OPEN = [ExecutionStatus.NULL.value, ExecutionStatus.STARTED.value]
_COLUMNS = (
    agents.c.id,
    agents.c.enrolled_at,
    agents.c.last_seen_at,
    agents.c.silent_at,
    agents.c.decommissioned_at,
)


def note_alive(connection: Connection, occasion: Occasion, agent: AnyRow) -> bool:
    """Take its silence back, if it was silent; inside the write that notes the sign of life."""
    if agent.silent_at is None:
        return False
    connection.execute(
        update(agents)
        .where(agents.c.id == agent.id)
        .values(silent_at=None, last_seen_at=occasion.now)
    )
    timers.arm(connection, TimerKind.NODE_SILENT, agent.id, occasion.now)
    timers.disarm(connection, TimerKind.NODE_LOST, agent.id)
    body = {"silent_since": format_instant(agent.silent_at)}
    journal.append(connection, occasion, agent.id, journal.NODE_BACK, body=body)
    if _has_lost(connection, agent.id):
        # What went on all the time has nothing to report: only its state tells that it is there.
        ask_for_state(connection, occasion, agent.id, by="core", reason="back after a silence")
    return True


def _has_lost(connection: Connection, agent_id: str) -> bool:
    query = select(actions.c.row).where(
        actions.c.agent_id == agent_id,
        actions.c.status.in_(_OPEN),
        actions.c.lost_reason == REASON_SILENT,
    )
    return connection.execute(query.limit(1)).first() is not None


def mark_lost(
    connection: Connection, occasion: Occasion, agent_ids: Sequence[str], reason: str
) -> list[str]:
    """Started actions of these nodes become LOST, each with its event; returns their ids.

    Of a node that is taken out of service its own waiting ones too: nobody will tell of them.
    """
    lost = actions.c.status == ExecutionStatus.STARTED.value
    if reason == REASON_DECOMMISSIONED:
        lost = lost | (actions.c.owner == Owner.NODE.value) | actions.c.definition.is_(None)
    found: list[str] = []
    notes: list[dict[str, Any]] = []
    changed = (
        update(actions)
        .where(
            actions.c.agent_id.in_(agent_ids),
            actions.c.status.in_(_OPEN),
            actions.c.lost_at.is_(None),
            lost,
        )
        .values(lost_at=occasion.now, lost_reason=reason)
        .returning(actions.c.agent_id, actions.c.id, actions.c.status)
    )
    for agent_id, action_id, status in connection.execute(changed).all():
        body = {"reason": reason, "status": status}
        notes.append(journal.row_of(occasion, agent_id, journal.LOST, action_id, body))
        found.append(action_id)
    if notes:
        journal.store(connection, notes)
    return found


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a node may be unheard: until it is silent, and until its actions are lost."""

    silent_after_s: float = SILENT_AFTER_S
    lost_after_s: float = LOST_AFTER_S

    def until(self, seen_at: datetime) -> datetime:
        """Up to when it is not silent if nothing more comes."""
        return seen_at + timedelta(seconds=self.silent_after_s)

    def lost_at(self, seen_at: datetime) -> datetime:
        """When its started actions are lost if nothing more comes."""
        return seen_at + timedelta(seconds=self.lost_after_s)


class Silence:
    """The handlers of the timers NODE_SILENT and NODE_LOST."""

    def __init__(self, lease: Lease, presence: Presence, started_at: datetime) -> None:
        self._lease = lease
        self._presence = presence
        self._started_at = started_at

    def handlers(self) -> timers.Handlers:
        """For the timers' loop."""
        return {TimerKind.NODE_SILENT: self.look, TimerKind.NODE_LOST: self.give_up}

    def look(
        self, connection: Connection, occasion: Occasion, refs: Sequence[str]
    ) -> Iterable[Topic]:
        """Whoever was heard meanwhile gets another while; the others are silent from now on."""
        again: list[tuple[str, datetime]] = []
        silent: list[tuple[AnyRow, datetime]] = []
        for agent in _locked(connection, refs):
            if agent.decommissioned_at is not None or agent.silent_at is not None:
                continue
            seen_at = self._seen_at(agent, occasion.now)
            due_at = self._lease.until(max(seen_at, self._started_at))
            if due_at > occasion.now:
                again.append((agent.id, _rounded_up(due_at)))
            else:
                silent.append((agent, seen_at))
        timers.arm_all(connection, TimerKind.NODE_SILENT, again)
        if not silent:
            return []
        ids = [agent.id for agent, _ in silent]
        connection.execute(
            update(agents).where(agents.c.id.in_(ids)).values(silent_at=occasion.now)
        )
        due = [(agent.id, self._lease.lost_at(seen_at)) for agent, seen_at in silent]
        timers.arm_all(connection, TimerKind.NODE_LOST, due)
        notes = []
        for agent, seen_at in silent:
            body = {"last_seen_at": format_instant(seen_at)}
            notes.append(journal.row_of(occasion, agent.id, journal.NODE_SILENT, body=body))
        journal.store(connection, notes)
        return [EVENTS, *_open_topics(connection, ids)]

    def give_up(
        self, connection: Connection, occasion: Occasion, refs: Sequence[str]
    ) -> Iterable[Topic]:
        """What the silent ones had started is lost, unless this core has only begun to listen."""
        lost: list[str] = []
        for agent in _locked(connection, refs):
            if agent.decommissioned_at is not None or agent.silent_at is None:
                continue
            listened_at = self._lease.until(self._started_at)
            if listened_at > occasion.now:
                due = [(agent.id, _rounded_up(listened_at))]
                timers.arm_all(connection, TimerKind.NODE_LOST, due)
            else:
                lost.append(agent.id)
        found = mark_lost(connection, occasion, lost, REASON_SILENT) if lost else []
        return [EVENTS, *map(action_topic, sorted(set(found)))] if found else []

    def _seen_at(self, agent: AnyRow, now: datetime) -> datetime:
        seen_at: datetime = agent.last_seen_at or agent.enrolled_at
        return max(seen_at, self._presence.seen_at(agent.id, now) or seen_at)


def _locked(connection: Connection, refs: Sequence[str]) -> list[AnyRow]:
    lock_agents(connection, refs)
    query = select(*_COLUMNS).where(agents.c.id.in_(refs)).order_by(agents.c.id)
    return list(connection.execute(query).all())


def _open_topics(connection: Connection, ids: Sequence[str]) -> list[Topic]:
    """Whoever waits for one of their actions sees the new phase; a bounded number of them."""
    query = select(actions.c.id).where(actions.c.agent_id.in_(ids), actions.c.status.in_(_OPEN))
    found = connection.execute(query.limit(IDS_PER_QUERY)).scalars()
    return list(map(action_topic, sorted(set(found))))


def _rounded_up(due_at: datetime) -> datetime:
    tick_us = TICK_S * 1_000_000
    return from_us(-(-to_us(due_at) // tick_us) * tick_us)
