"""Which webhooks this `cored` delivers for: a task for each whose lease it holds.

One at a time per webhook among several `cored`: the lease decides. What is put off waits here for
its time, not in a task; what is disabled or deleted loses its task at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from agent.core import log_events
from agent.core.events import webhooks
from agent.core.events.delivery import Delivery
from agent.core.events.webhooks import Hook
from agent.core.store.port import AnyRow, Store
from agent.core.store.schema import webhooks as table
from agent.core.wakeups import WEBHOOKS, Waiter, Wakeups
from agent.infra.clock import Clock

HOOKS_MAX = 100  # per core; each is a task and a queue
LOOK_S_MAX = 60.0  # for what another `cored` let go of without a word
LOOK_S_MIN = 0.05
REST_S = 5.0  # after an error of ours, or of the database

_ROWS = select(
    table.c.id, table.c.enabled, table.c.next_at, table.c.leased_until, table.c.leased_by
).order_by(table.c.id)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, and when to look again if nothing happens."""

    start: Sequence[str]
    stop: Collection[str]
    look_at: datetime


def make_plan(
    rows: Sequence[AnyRow],
    running: Collection[str],
    resting: Mapping[str, datetime],
    now: datetime,
    *,
    me: str | None,
) -> Plan:
    """Start what is due and free. `me` None: nobody else is there, leases mean nothing. Pure."""
    wanted = {row.id: row for row in rows if row.enabled}
    start: list[str] = []
    look_at = now + timedelta(seconds=LOOK_S_MAX)
    for hook_id, row in wanted.items():
        if hook_id in running:
            continue
        held_by_other = me is not None and row.leased_by not in (None, me)
        until = [
            moment
            for moment in (
                row.next_at,
                row.leased_until if held_by_other else None,
                resting.get(hook_id),
            )
            if moment is not None and moment > now
        ]
        if until:
            look_at = min(look_at, max(until))
        else:
            start.append(hook_id)
    return Plan(start, set(running) - set(wanted), look_at)


class Courier:
    """`run` until cancelled, or until the core closes."""

    def __init__(
        self, store: Store, clock: Clock, wakeups: Wakeups, delivery: Delivery, me: str, log: Any
    ) -> None:
        self._store = store
        self._clock = clock
        self._wakeups = wakeups
        self._delivery = delivery
        self._me = me
        self._log = log
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resting: dict[str, datetime] = {}

    async def run(self) -> None:
        """Deliver."""
        loop = asyncio.get_running_loop()
        try:
            with self._wakeups.subscribed(WEBHOOKS) as waiter:
                while not self._wakeups.closing:
                    plan = await self._store.read(self._plan)
                    for hook_id in plan.stop:
                        self._tasks[hook_id].cancel()
                    if plan.start:
                        await self._start(plan.start, waiter)
                    left_s = (plan.look_at - self._clock.now()).total_seconds()
                    await waiter.wait_until(loop.time() + max(left_s, LOOK_S_MIN))
        finally:
            for task in self._tasks.values():
                task.cancel()
            held = len(self._tasks)
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            if held:
                await self._store.write(lambda c: webhooks.release_all(c, self._me))

    def _plan(self, connection: Connection) -> Plan:
        rows = connection.execute(_ROWS).all()
        me = None if connection.dialect.name == "sqlite" else self._me
        return make_plan(rows, list(self._tasks), dict(self._resting), self._clock.now(), me=me)

    async def _start(self, ids: Sequence[str], waiter: Waiter) -> None:
        now = self._clock.now()
        claimed = await self._store.write(lambda c: webhooks.claim(c, self._me, now, ids))
        for hook in claimed:
            task = asyncio.create_task(self._delivery.serve(hook), name=f"webhook {hook.id}")
            self._tasks[hook.id] = task
            task.add_done_callback(partial(self._ended, hook, waiter))

    def _ended(self, hook: Hook, waiter: Waiter, task: asyncio.Task[None]) -> None:
        """Look again: the row says when it goes on."""
        self._tasks.pop(hook.id, None)
        self._resting.pop(hook.id, None)
        if not task.cancelled() and task.exception() is not None:
            self._log.error(log_events.WEBHOOK_FAILED, webhook=hook.id, exc_info=task.exception())
            self._resting[hook.id] = self._clock.now() + timedelta(seconds=REST_S)
        waiter.ring()
