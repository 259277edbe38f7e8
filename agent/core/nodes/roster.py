"""The nodes as operators see them: who is there, since when, with which kinds; and nudging one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.nodes.admission import agent_row
from agent.core.nodes.enrolment import TTL_S_DEFAULT, create_token
from agent.core.nodes.stream import ask_for_state
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow, Store
from agent.core.store.schema import actions, agents
from agent.core.wakeups import EVENTS, Wakeups, agent_topic
from agent.domain.ids import RandomBits
from agent.domain.instants import format_instant, maybe_format
from agent.infra.clock import Clock

SILENT_AFTER_S = 150.0  # two fallback pulls of a minute, and the half minute `last_seen_at` may lag


class Roster:
    """What operators may do with nodes."""

    def __init__(
        self, store: Store, clock: Clock, random_bits: RandomBits, wakeups: Wakeups
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups

    async def list(self, after: str, limit: int) -> dict[str, Any]:
        """A page of nodes by name."""
        now = self._clock.now()
        return await self._store.read(lambda c: _list(c, after, limit, now))

    async def get(self, agent_id: str) -> dict[str, Any]:
        """One node, with its catalogue. Raises `NotFound`."""
        now = self._clock.now()
        return await self._store.read(lambda c: _get(c, agent_id, now))

    async def nudge(self, agent_id: str, by: str = "admin") -> dict[str, Any]:
        """Ask the node to send everything; one open request is enough. Raises `NotFound`."""
        occasion = Occasion(self._clock.now(), self._random_bits)
        request_id = await self._store.write(lambda c: _nudge(c, occasion, agent_id, by))
        self._wakeups.notify([agent_topic(agent_id), EVENTS])
        return {"requested": "send_state", "request_id": request_id}

    async def create_token(
        self, agent_id: str | None, ttl_s: float = TTL_S_DEFAULT
    ) -> dict[str, Any]:
        """A single-use enrolment token, shown this once."""
        occasion = Occasion(self._clock.now(), self._random_bits)
        token, expires_at = await self._store.write(
            lambda c: create_token(c, occasion, agent_id, ttl_s)
        )
        return {"token": token, "node": agent_id, "expires_at": format_instant(expires_at)}


def _list(connection: Connection, after: str, limit: int, now: datetime) -> dict[str, Any]:
    query = select(agents).where(agents.c.id > after).order_by(agents.c.id).limit(limit + 1)
    rows = connection.execute(query).all()
    page = rows[:limit]
    counts = _counts(connection, [row.id for row in page])
    return {
        "agents": [_summary(row, counts[row.id], now) for row in page],
        "next": page[-1].id if len(rows) > limit else None,
    }


def _get(connection: Connection, agent_id: str, now: datetime) -> dict[str, Any]:
    row = agent_row(connection, agent_id)
    report = msgspec.json.decode(row.report) if row.report else {}
    return _summary(row, _counts(connection, [agent_id])[agent_id], now) | {
        "enrolled_at": format_instant(row.enrolled_at),
        "instance": row.instance,
        "instance_at": maybe_format(row.instance_at),
        "fenced_at": maybe_format(row.fenced_at),
        "report_at": maybe_format(row.report_at),
        "protocol": report.get("protocol"),
        "features": report.get("features", []),
        "catalogue": report.get("catalogue", []),
        "clock": report.get("clock", {}),
        "progress": report.get("progress", []),
        "event_seq": row.event_seq,
    }


def _counts(connection: Connection, ids: list[str]) -> Mapping[str, dict[str, int]]:
    query = (
        select(actions.c.agent_id, actions.c.status, func.count())
        .where(actions.c.agent_id.in_(ids))
        .group_by(actions.c.agent_id, actions.c.status)
    )
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for agent_id, status, count in connection.execute(query):
        found[agent_id][status] = count
    return found


def _summary(row: AnyRow, counts: dict[str, int], now: datetime) -> dict[str, Any]:
    report = msgspec.json.decode(row.report) if row.report else {}
    seen = row.last_seen_at
    return {
        "id": row.id,
        "version": report.get("version"),
        "host": report.get("host"),
        "last_seen_at": maybe_format(seen),
        "silent": seen is None or now - seen > timedelta(seconds=SILENT_AFTER_S),
        "counts": counts,
        "undelivered": row.head_seq - row.acked_seq,
        "fenced_count": row.fenced_count,
        "brakes": report.get("brakes", []),
        "pause": report.get("pause"),
    }


def _nudge(connection: Connection, occasion: Occasion, agent_id: str, by: str) -> str:
    agent_row(connection, agent_id)
    request_id = ask_for_state(connection, occasion, agent_id, by=by)
    body = {"request_id": request_id, "requested_by": by}
    journal.append(connection, occasion, agent_id, journal.STATE_REQUESTED, body=body)
    return request_id
