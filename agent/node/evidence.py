"""Reading the runner's records after a restore, before anything starts: the doing of `restored`."""

from __future__ import annotations

from functools import partial
from typing import Any

from agent.infra.clock import Clock
from agent.node import log_events
from agent.node.catalogue import Kinds
from agent.node.engine import Engine
from agent.node.ledger import Ledger
from agent.node.ports import Hello, Runner, Store
from agent.node.restored import (
    Findings,
    doubt_overdue,
    doubt_unanswered,
    finish_evidence,
    insert_unknown,
    pending_restore,
    take_starts,
)
from agent.node.store.meta import read_meta

RECORDS = "records"
"""The runner's feature that lists what it has on file."""


class Evidence:
    """Brings an old database up to what the runner knows; does nothing for one that is not old."""

    def __init__(
        self, *, runner: Runner, engine: Engine, store: Store, kinds: Kinds, ledger: Ledger,
        clock: Clock, log: Any,
    ) -> None:  # fmt: skip
        self._runner = runner
        self._engine = engine
        self._store = store
        self._kinds = kinds
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._told: dict[str, Any] | None = None
        self.was_old = False
        """Whether the database was found to be older than the runner's records in this life."""

    async def begin(self, hello: Hello, *, overtaken: bool) -> None:
        """First of all: whether there is something to read, and no row number is used twice."""
        now = self._clock.now()
        self._told = await self._store.write(
            lambda c: pending_restore(c, hello, now, overtaken=overtaken)
        )

    async def read(self, hello: Hello) -> None:
        """All of it. Raises `RunnerAway` and `StoreUnavailable`; then it is read again."""
        told = self._told
        if told is None:
            return
        found = Findings()
        can_list = RECORDS in hello.features
        if can_list:
            await self._take_all(found, int(told["first_free"]))
        boot_id = (await self._store.read(read_meta)).boot_id
        intact = bool(told["covers"]) and can_list and boot_id == hello.boot_id
        await self._doubt(found, absence_is_evidence=intact)
        await self._store.write(lambda c: finish_evidence(c, told, found, hello.boot_id))
        self.was_old = True
        self._log.warning(
            log_events.RESTORE_EVIDENCE, why=told["why"], starts_found=found.starts,
            unknown_actions=found.unknown_actions, doubtful=found.doubtful,
        )  # fmt: skip

    async def doubt(self, unanswered: list[str]) -> None:
        """Once all are claimed: of these nobody knows how they ended. Told after a restore only."""
        if self._told is not None and unanswered:
            await self._store.write(lambda c: doubt_unanswered(c, unanswered))
        self._told = None

    async def _take_all(self, found: Findings, first_free: int) -> None:
        ledger, now, after = self._ledger, self._clock.now(), None
        while True:
            page, after = await self._runner.records(after)
            await self._store.write(
                partial(
                    take_starts, ledger=ledger, records=page, now=now, first_free=first_free,
                    found=found,
                )
            )  # fmt: skip
            if after is None:
                break
        lane_of = self._kinds.lane
        await self._store.write(lambda c: insert_unknown(c, ledger, now, lane_of, found))

    async def _doubt(self, found: Findings, *, absence_is_evidence: bool) -> None:
        after: int | None = 0
        while after is not None:
            after = await self._store.write(
                partial(
                    doubt_overdue, ledger=self._ledger, now=self._clock.now(), after_row=after,
                    terms_of=self._engine.terms, found=found,
                    absence_is_evidence=absence_is_evidence,
                )
            )  # fmt: skip
