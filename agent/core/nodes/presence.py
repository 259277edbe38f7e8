"""Who was heard of: collected in memory, written every few seconds for all nodes at once.

A long poll changes nothing, and ten thousand of them must not cost as many commits. What is not
written yet when the core dies is a few seconds of `last_seen_at`, and progress that the nodes tell
again. With nothing to write, nothing wakes up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.engine import Connection

from agent.core.nodes.fresh import FreshReport
from agent.core.occasion import Occasion
from agent.core.store.locks import IDS_PER_QUERY, lock_agents
from agent.core.store.port import AnyRow, Store, StoreUnavailable
from agent.core.store.schema import agents
from agent.core.wakeups import EVENTS, Wakeups, agent_topic
from agent.domain.ids import RandomBits
from agent.infra.clock import Clock

FLUSH_S = 3.0  # how long a sign of life, or a script's progress, may wait to be seen by others
WRITTEN_AT_ONCE = 250  # their locks are held together, and whoever reports waits for them
SEEN_EVERY_S = 30.0  # a node that only polls is noted so often

Alive = Callable[[Connection, Occasion, AnyRow], bool]

_SEEN = (
    update(agents)
    .where(
        agents.c.id == bindparam("agent"),
        or_(agents.c.last_seen_at.is_(None), agents.c.last_seen_at < bindparam("at")),
    )
    .values(last_seen_at=bindparam("at"))
)
_TOLD = (
    update(agents)
    .where(
        agents.c.id == bindparam("agent"),
        agents.c.report_at < bindparam("at"),
        agents.c.report.is_not(None),  # else it was enrolled anew, and tells everything
    )
    .values(
        report=bindparam("text"), report_at=bindparam("at"), skew_ms=bindparam("skew"),
    )
)  # fmt: skip


@dataclass(slots=True)
class _Heard:
    """What is to be written of one node."""

    at: datetime
    report: FreshReport | None = None


class Presence:
    """One per `cored`; `run` writes, everything else only remembers.

    `alive` is told of each silent node that was heard, inside the write that notes it.
    """

    def __init__(
        self, store: Store, clock: Clock, random_bits: RandomBits, wakeups: Wakeups, alive: Alive
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups
        self._alive = alive
        self._heard: dict[str, _Heard] = {}
        self._noted_s: dict[str, float] = {}
        self._connected: dict[str, int] = {}
        self._something = asyncio.Event()

    @contextmanager
    def connected(self, agent_id: str) -> Iterator[None]:
        """While a poll of this node is open it is there, whenever it was heard last."""
        self._connected[agent_id] = self._connected.get(agent_id, 0) + 1
        try:
            yield
        finally:
            self._connected[agent_id] -= 1
            if not self._connected[agent_id]:
                del self._connected[agent_id]

    def note(self, agent_id: str, now: datetime) -> None:
        """It gave a sign of life that nothing else writes down."""
        now_s = self._clock.monotonic()
        if now_s - self._noted_s.get(agent_id, -SEEN_EVERY_S) >= SEEN_EVERY_S:
            self._noted_s[agent_id] = now_s
            self._remember(agent_id, now)

    def tell(self, agent_id: str, report: FreshReport) -> None:
        """Its report differs from the stored one in what changes all the time only."""
        self._remember(agent_id, report.at).report = report

    def forget(self, agent_id: str) -> None:
        """It was taken out of service, or its whole report is being written."""
        self._heard.pop(agent_id, None)
        self._noted_s.pop(agent_id, None)

    def seen_at(self, agent_id: str, now: datetime) -> datetime | None:
        """When it was heard, as far as that is known here and not written yet."""
        if agent_id in self._connected:
            return now
        heard = self._heard.get(agent_id)
        return None if heard is None else heard.at

    def is_connected(self, agent_id: str) -> bool:
        """Whether a poll of this node is open here."""
        return agent_id in self._connected

    @property
    def connections(self) -> int:
        """How many nodes have a poll open here; for metrics."""
        return len(self._connected)

    async def run(self) -> None:
        """Write, for ever. What cannot be written now is written with what comes next."""
        while True:
            await self._something.wait()
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
            except StoreUnavailable:
                continue  # the store tells that it is; everything was put back

    async def flush(self) -> None:
        """Write what was heard. Raises `StoreUnavailable`; then it is still to be written."""
        self._something.clear()
        heard, self._heard = self._heard, {}
        while heard:
            some = {one: heard[one] for one in islice(heard, WRITTEN_AT_ONCE)}
            await self._flush_some(some, heard)
            for one in some:
                del heard[one]

    async def _flush_some(self, some: dict[str, _Heard], left: dict[str, _Heard]) -> None:
        occasion = Occasion(self._clock.now(), self._random_bits)
        try:
            back = await self._store.write(lambda c: _write(c, occasion, some, self._alive))
        except StoreUnavailable:
            for agent_id, one in left.items():
                self._heard.setdefault(agent_id, one)
            self._something.set()
            raise
        if back:
            self._wakeups.notify([EVENTS, *map(agent_topic, back)])

    def _remember(self, agent_id: str, now: datetime) -> _Heard:
        heard = self._heard.setdefault(agent_id, _Heard(now))
        heard.at = max(heard.at, now)
        self._something.set()
        return heard


def _write(
    connection: Connection, occasion: Occasion, heard: dict[str, _Heard], alive: Alive
) -> list[str]:
    """All of them in one transaction; returns who was silent before."""
    ids = sorted(heard)
    lock_agents(connection, ids)
    connection.execute(_SEEN, [{"agent": one, "at": heard[one].at} for one in ids])
    told = [
        {"agent": one, "at": report.at, "text": report.text, "skew": report.skew_ms}
        for one in ids
        if (report := heard[one].report) is not None
    ]
    if told:
        connection.execute(_TOLD, told)
    back = []
    for start in range(0, len(ids), IDS_PER_QUERY):
        some = ids[start : start + IDS_PER_QUERY]
        query = select(agents).where(agents.c.id.in_(some), agents.c.silent_at.is_not(None))
        back += [
            row.id for row in connection.execute(query).all() if alive(connection, occasion, row)
        ]
    return back
