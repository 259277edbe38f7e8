"""What an operator decides about the node as a whole: pause, resume, drain, and brakes.

Durable before it is answered, and each of them once or twice is the same. What runs is never
touched; nothing is lost by any of them.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.domain.brake import BRAKES_MAX, Brake
from agent.domain.errors import NotFound, Refused
from agent.domain.instants import format_instant
from agent.domain.lifecycle import ExecutionStatus
from agent.infra.clock import Clock
from agent.node import log_events
from agent.node.engine import Engine
from agent.node.ports import Store
from agent.node.restraint_file import RestraintFile
from agent.node.store import actions, brakes
from agent.node.store.meta import Meta, read_meta, write_meta
from agent.wire.brake import decode_brake

DRAIN_REASON = "drain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standstill:
    """How far the node has come to rest."""

    meta: Meta
    running: int


class Control:
    """The writes of pause, resume, drain and brake. `by` is who asks, as the door knows them."""

    def __init__(
        self, *, store: Store, engine: Engine, clock: Clock, log: Any, kept: RestraintFile
    ) -> None:
        self._kept = kept
        self._store = store
        self._engine = engine
        self._clock = clock
        self._log = log

    async def pause(self, by: str, reason: str, *, drain: bool = False) -> Meta:
        """Start nothing from now on. Paused already, it stays so since then; a new reason counts.

        `drain` also notes that the node is meant to come to rest.
        """
        before = await self._store.read(read_meta)

        def write(connection: sqlite3.Connection) -> Meta:
            _pause(connection, by, reason, self._clock.now(), drain=drain)
            return read_meta(connection)

        meta = await self._store.write(write)
        self._changed(meta)
        await self._kept.keep()
        if not before.paused:
            self._log.info(log_events.PAUSED, by=by, reason=meta.pause_reason, drain=drain)
        return meta

    async def resume(self, by: str) -> Meta:
        """Start what is due. What became too late meanwhile has ended, as after downtime."""
        before = await self._store.read(read_meta)

        def write(connection: sqlite3.Connection) -> Meta:
            write_meta(
                connection, paused=0, paused_at="", paused_by="", pause_reason="", draining=0
            )
            return read_meta(connection)

        meta = await self._store.write(write)
        self._changed(meta)
        await self._kept.keep()
        if before.paused:
            self._log.info(log_events.RESUMED, by=by, since=before.paused_at)
        return meta

    async def drain(self, by: str, reason: str, wait_s: float) -> Standstill:
        """Pause, and wait until nothing runs, for `wait_s` at most; asked again it waits on."""
        await self.pause(by, reason, drain=True)
        changes = self._engine.changes
        deadline = self._clock.monotonic() + wait_s
        while True:
            version = changes.version
            found = await self._store.read(_standstill)
            left_s = deadline - self._clock.monotonic()
            # Resumed by somebody else meanwhile: then it will never come to rest.
            if not found.running or not found.meta.draining or left_s <= 0 or changes.closed:
                return found
            await changes.after(version, left_s)

    async def brake(self, document: Any, by: str) -> Brake:
        """Hold back a kind or labels. Raises `InvalidDocument`, or `Refused` (`too_many`)."""
        now = self._clock.now()
        believed = self._engine.believed_now()
        values = decode_brake(document, now) | {"by": by}

        def write(connection: sqlite3.Connection) -> Brake:
            if len(brakes.active(connection, believed)) >= BRAKES_MAX:
                raise Refused(
                    "too_many", f"there are {BRAKES_MAX} brakes already; lift some of them first"
                )
            return brakes.insert(connection, values, now)

        made = await self._store.write(write)
        self._log.info(log_events.BRAKED, brake=made.id, what=made.what, by=by, reason=made.reason)
        self._woken()
        await self._kept.keep()
        return made

    async def lift(self, number: int) -> Brake:
        """End a brake now. Raises `NotFound`."""

        def write(connection: sqlite3.Connection) -> Brake:
            # An expired one that is being put back is no brake any more.
            now = self._engine.believed_now()
            known = {brake.id: brake for brake in brakes.active(connection, now)}
            if number not in known:
                raise NotFound(f"there is no brake {number} on this node")
            brakes.lift(connection, number)
            return known[number]

        lifted = await self._store.write(write)
        self._woken()
        await self._kept.keep()
        return lifted

    def _changed(self, meta: Meta) -> None:
        self._engine.pause_changed(meta)
        self._woken()

    def _woken(self) -> None:
        self._engine.wake()
        self._engine.changes.notify()


def _pause(
    connection: sqlite3.Connection, by: str, reason: str, now: datetime, *, drain: bool
) -> None:
    meta = read_meta(connection)
    if not meta.paused:
        write_meta(connection, paused=1, paused_at=format_instant(now), paused_by=by)
        write_meta(connection, pause_reason=reason or (DRAIN_REASON if drain else ""))
    elif reason and reason != meta.pause_reason:
        write_meta(connection, paused_by=by, pause_reason=reason)
    if drain:
        write_meta(connection, draining=1)


def _standstill(connection: sqlite3.Connection) -> Standstill:
    running = actions.counts(connection)[ExecutionStatus.STARTED.value]
    return Standstill(meta=read_meta(connection), running=running)
