"""Nudges: a fresh look at a node when something seems stuck.

Where the node's API can be reached its state is pulled and applied at once, by the function that
takes a push; elsewhere, and where that fails, the node is asked for it with its next poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.actions.listing import ActionRef, find_action
from agent.core.nodes.node_api import NodeApi
from agent.core.nodes.protocol import NodeProtocol
from agent.core.nodes.pulled_state import Page, Unusable, part_of, require_same
from agent.core.nodes.selection import in_service, select_nodes
from agent.core.nodes.selector import Selector
from agent.core.nodes.stream import Asked, enqueue_requests
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.store.locks import IDS_PER_QUERY, lock_agents
from agent.core.store.port import Store
from agent.core.store.schema import agents, requests
from agent.core.wakeups import EVENTS, Wakeups, agent_topic
from agent.domain.errors import Fault, InvalidDocument, NotFound, Refused, shown
from agent.domain.ids import RandomBits
from agent.infra.clock import Clock
from agent.wire.messages import SEND_STATE
from agent.wire.strict_json import NotJson

NODES_MAX = 10_000  # of one nudge
PULLS_AT_ONCE = 8
PULLS_S_MAX = 45.0  # of one nudge of many; whoever was not reached by then is asked


@dataclass(frozen=True, slots=True)
class _Where:
    """A node, and how it can be reached."""

    id: str
    url: str | None
    token: str | None


class Nudging:
    """Looks at nodes afresh."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random_bits: RandomBits,
        wakeups: Wakeups,
        protocol: NodeProtocol,
        api: NodeApi,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups
        self._protocol = protocol
        self._api = api

    def _occasion(self) -> Occasion:
        return Occasion(self._clock.now(), self._random_bits)

    async def one(self, agent_id: str, by: str) -> dict[str, Any]:
        """Pull, or ask. Raises `NotFound`, `Refused` (decommissioned)."""
        where = await self._store.read(lambda c: _where(c, agent_id))
        told = await self._all([where], by, f"nudge:{agent_id}")
        if not told:
            raise _gone(agent_id)  # until just now it was there
        return told[0]

    async def many(self, selector: Selector, by: str) -> dict[str, Any]:
        """The same for all that a selector means. Raises `InvalidDocument`."""
        found = await self._store.read(lambda c: _meant(c, selector))
        told = await self._all(found, by, str(selector))
        counts = {word: sum(one["outcome"] == word for one in told) for word in _OUTCOMES}
        return {"selector": str(selector), **counts, "nodes": told}

    async def action(self, ref: ActionRef, by: str) -> dict[str, Any]:
        """The same for the node of an action. Raises `NotFound`, `Refused`."""
        row = await self._store.read(lambda c: find_action(c, ref))
        return {"action_id": row.id, **await self.one(row.agent_id, by)}

    async def _all(self, found: Sequence[_Where], by: str, target: str) -> list[dict[str, Any]]:
        pulled = await self._pull_all([one for one in found if one.url and one.token])
        whys = {one: why for one, why in pulled.items() if isinstance(why, str)}
        done = {one: count for one, count in pulled.items() if isinstance(count, int)}
        asked = [one.id for one in found if one.id not in done]
        occasion = self._occasion()

        def write(connection: Connection) -> dict[str, str]:
            ids = _ask_all(connection, occasion, asked, by)
            rows = [
                journal.row_of(
                    occasion, one, journal.STATE_PULLED, body={"actions": count, "requested_by": by}
                )
                for one, count in done.items()
            ]
            if rows:
                journal.store(connection, rows)
            detail = {"pulled": len(done), "requested": len(asked)}
            audit.record(connection, occasion, by, "nudge", target, detail)
            return ids

        request_ids = await self._store.write(write)
        self._wakeups.notify([EVENTS, *map(agent_topic, asked)])
        return [
            _pulled(one.id, done[one.id])
            if one.id in done
            else _requested(one, request_ids[one.id], whys.get(one.id))
            for one in found
            if one.id in done or one.id in request_ids
        ]

    async def _pull_all(self, reachable: Sequence[_Where]) -> dict[str, int | str]:
        """How many actions each told, or why it could not be asked."""
        told: dict[str, int | str] = {one.id: "there was no time to reach it" for one in reachable}
        turns = asyncio.Semaphore(PULLS_AT_ONCE)

        async def pull(where: _Where) -> None:
            async with turns:
                told[where.id] = await self._pull(where)

        tasks = [asyncio.ensure_future(pull(where)) for where in reachable]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=PULLS_S_MAX)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            for task in set(tasks) - late:
                task.result()
        return told

    async def _pull(self, where: _Where) -> int | str:
        snapshot = self._occasion().new_mark()
        first: Page | None = None
        number = count = 0
        try:
            async for page in self._api.state_of(where.url or "", where.token or ""):
                first = first or page
                require_same(first, page, where.id)
                push = part_of(first, page, snapshot, number)
                await self._protocol.take_state(where.id, push)
                number, count = number + 1, count + len(push.actions)
        except (Unusable, Refused, NotJson) as error:
            return str(error)
        return count


_OUTCOMES = ("pulled", "requested")


def _pulled(agent_id: str, count: int) -> dict[str, Any]:
    return {"node": agent_id, "outcome": "pulled", "actions": count}


def _requested(where: _Where, request_id: str, why: str | None) -> dict[str, Any]:
    return {
        "node": where.id,
        "outcome": "requested",
        "requested": SEND_STATE,
        "request_id": request_id,
        "why": why or ("its api_url and api_token are not set" if not where.url else None),
    }


def _where(connection: Connection, agent_id: str) -> _Where:
    columns = (agents.c.id, agents.c.api_url, agents.c.api_token, agents.c.decommissioned_at)
    row = connection.execute(select(*columns).where(agents.c.id == agent_id)).first()
    if row is None:
        raise NotFound(f"there is no node {shown(agent_id)}; corectl agents lists them")
    if row.decommissioned_at is not None:
        raise _gone(agent_id)
    return _Where(row.id, row.api_url, row.api_token)


def _gone(agent_id: str) -> Refused:
    return Refused("decommissioned", f"the node {agent_id!r} was taken out of service")


def _meant(connection: Connection, selector: Selector) -> list[_Where]:
    ids = select_nodes(connection, selector, NODES_MAX + 1)
    if len(ids) > NODES_MAX:
        raise InvalidDocument([Fault("selector", f"matches more than {NODES_MAX} nodes")])
    found: dict[str, _Where] = {}
    for start in range(0, len(ids), IDS_PER_QUERY):
        some = ids[start : start + IDS_PER_QUERY]
        query = select(agents.c.id, agents.c.api_url, agents.c.api_token).where(
            agents.c.id.in_(some)
        )
        found |= {
            row.id: _Where(row.id, row.api_url, row.api_token) for row in connection.execute(query)
        }
    return [found[one] for one in ids if one in found]


def _ask_all(
    connection: Connection, occasion: Occasion, agent_ids: Sequence[str], by: str
) -> dict[str, str]:
    """Have them send everything; one open request of a node is enough. The request of each."""
    lock_agents(connection, agent_ids)
    there = in_service(connection, agent_ids)
    agent_ids = [one for one in agent_ids if one in there]
    ids: dict[str, str] = {}
    for start in range(0, len(agent_ids), IDS_PER_QUERY):
        some = agent_ids[start : start + IDS_PER_QUERY]
        query = select(requests.c.agent_id, requests.c.id).where(
            requests.c.agent_id.in_(some),
            requests.c.acked_at.is_(None),
            requests.c.type == SEND_STATE,
        )
        ids |= {row.agent_id: row.id for row in connection.execute(query)}
    fresh = [one for one in agent_ids if one not in ids]
    ids |= enqueue_requests(connection, occasion, fresh, Asked(SEND_STATE, by=by))
    rows = [
        journal.row_of(
            occasion,
            one,
            journal.STATE_REQUESTED,
            body={"request_id": ids[one], "requested_by": by},
        )
        for one in agent_ids
        if one in ids
    ]
    if rows:
        journal.store(connection, rows)
    return ids
