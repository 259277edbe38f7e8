"""The nodes as operators see them: who is there, since when, with which labels and kinds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Select, func, select
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.nodes.admission import agent_row, locked_agent_row
from agent.core.nodes.enrolment import TTL_S_DEFAULT, create_token
from agent.core.nodes.enrolment_tokens import make_room
from agent.core.nodes.freeze_views import held_by
from agent.core.nodes.labelling import own_labels, reported_labels
from agent.core.nodes.selection import is_meant, labels_of
from agent.core.nodes.selector import Selector
from agent.core.nodes.silence import Lease
from agent.core.nodes.stream import ask_for_state
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.store.port import AnyRow, Store
from agent.core.store.schema import actions, agents
from agent.core.wakeups import EVENTS, Wakeups, agent_topic
from agent.domain.ids import RandomBits
from agent.domain.instants import format_instant, maybe_format
from agent.domain.labels import NODE_LABEL
from agent.infra.clock import Clock

_decode = msgspec.json.Decoder().decode


class Roster:
    """What operators may do with nodes."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random_bits: RandomBits,
        wakeups: Wakeups,
        lease: Lease | None = None,
    ) -> None:
        self._lease = lease or Lease()
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups

    async def list(
        self,
        after: str,
        limit: int,
        selector: Selector | None = None,
        *,
        decommissioned: bool = False,
    ) -> dict[str, Any]:
        """A page by name of the nodes in service, or of those that were taken out of it."""
        wanted = (agents.c.id > after, agents.c.decommissioned_at.is_not(None) == decommissioned)
        query = select(agents).where(*wanted).order_by(agents.c.id).limit(limit + 1)
        if selector is not None:
            query = query.where(is_meant(selector))
        now = self._clock.now()
        return await self._store.read(lambda c: _list(c, query, limit, self._lease, now))

    async def get(self, agent_id: str) -> dict[str, Any]:
        """One node, with its catalogue. Raises `NotFound`."""
        now = self._clock.now()
        return await self._store.read(lambda c: _get(c, agent_id, self._lease, now))

    async def nudge(self, agent_id: str, by: str = "admin") -> dict[str, Any]:
        """Ask the node to send everything; one open request is enough. Raises `NotFound`."""
        occasion = Occasion(self._clock.now(), self._random_bits)
        request_id = await self._store.write(lambda c: _nudge(c, occasion, agent_id, by))
        self._wakeups.notify([agent_topic(agent_id), EVENTS])
        return {"requested": "send_state", "request_id": request_id}

    async def create_token(
        self, agent_id: str | None, ttl_s: float = TTL_S_DEFAULT, *, by: str = "admin"
    ) -> dict[str, Any]:
        """A single-use enrolment token, shown this once."""
        occasion = Occasion(self._clock.now(), self._random_bits)

        def work(connection: Connection) -> tuple[str, datetime]:
            make_room(connection, occasion.now)
            made = create_token(connection, occasion, agent_id, ttl_s)
            detail = {"expires_at": format_instant(made[1])}
            audit.record(
                connection, occasion, by, "enrollment_token_create", agent_id or "", detail
            )
            return made

        token, expires_at = await self._store.write(work)
        return {"token": token, "node": agent_id, "expires_at": format_instant(expires_at)}


def _list(
    connection: Connection, query: Select[Any], limit: int, lease: Lease, now: datetime
) -> dict[str, Any]:
    rows = connection.execute(query).all()
    page = rows[:limit]
    beside = _Beside(connection, [row.id for row in page], lease, now)
    return {
        "agents": [_summary(row, beside) for row in page],
        "next": page[-1].id if len(rows) > limit else None,
    }


def _get(connection: Connection, agent_id: str, lease: Lease, now: datetime) -> dict[str, Any]:
    row = agent_row(connection, agent_id)
    report = _decode(row.report) if row.report else {}
    return _summary(row, _Beside(connection, [agent_id], lease, now)) | {
        "labels_reported": reported_labels(row.report),
        "labels_set": own_labels(row.own_labels),
        "api_url": row.api_url,
        "api_token_set": row.api_token is not None,
        "enrolled_at": format_instant(row.enrolled_at),
        "instance": row.instance,
        "instance_at": maybe_format(row.instance_at),
        "report_at": maybe_format(row.report_at),
        "protocol": report.get("protocol"),
        "features": report.get("features", []),
        "catalogue": report.get("catalogue", []),
        "clock": report.get("clock", {}),
        "progress": report.get("progress", []),
        "event_seq": row.event_seq,
    }


class _Beside:
    """What other tables say of the nodes of a page."""

    def __init__(self, connection: Connection, ids: list[str], lease: Lease, now: datetime) -> None:
        self.counts = _counts(connection, ids)
        self.labels = labels_of(connection, ids)
        self.freezes = held_by(connection, ids, now)
        self.lease = lease


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


def _summary(row: AnyRow, beside: _Beside) -> dict[str, Any]:
    report = _decode(row.report) if row.report else {}
    seen = row.last_seen_at
    in_service = row.decommissioned_at is None
    return {
        "id": row.id,
        "version": report.get("version"),
        "host": report.get("host"),
        "labels": {**beside.labels.get(row.id, {}), NODE_LABEL: row.id},
        "last_seen_at": maybe_format(seen),
        "lease_until": maybe_format(beside.lease.until(seen) if seen else None),
        "silent": in_service and (row.silent_at is not None or seen is None),
        "silent_at": maybe_format(row.silent_at),
        "skew_ms": row.skew_ms,
        "decommissioned_at": maybe_format(row.decommissioned_at),
        "counts": beside.counts[row.id],
        "undelivered": row.head_seq - row.acked_seq,
        "fenced_count": row.fenced_count,
        "fenced_at": maybe_format(row.fenced_at),
        "brakes": report.get("brakes", []),
        "pause": report.get("pause"),
        "freezes": beside.freezes.get(row.id, []),
    }


def _nudge(connection: Connection, occasion: Occasion, agent_id: str, by: str) -> str:
    locked_agent_row(connection, agent_id)
    request_id = ask_for_state(connection, occasion, agent_id, by=by)
    body = {"request_id": request_id, "requested_by": by}
    journal.append(connection, occasion, agent_id, journal.STATE_REQUESTED, body=body)
    audit.record(connection, occasion, by, "nudge", agent_id, {"request_id": request_id})
    return request_id
