"""The wiring of `agentd`: the one place that sees all of its parts. Builds, runs, stops.

Order of a start: lock, database, identity, runner (recovery by evidence), API, sync. A stop ends
the loops and leaves scripts running: they are the runner's.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import socket
import sqlite3
from contextlib import suppress
from datetime import datetime
from typing import Any

from agent.domain.errors import AgentError
from agent.domain.ids import RandomBits, new_mark
from agent.infra.clock import SystemClock, WallAlarm
from agent.infra.http_server import HttpServer, bind_tcp, bind_unix, bound_to, remove_socket
from agent.infra.logs import get_log
from agent.infra.memory import give_back
from agent.infra.notify import notify
from agent.node import log_events
from agent.node.api.access import Access, own_token
from agent.node.api.context import Context
from agent.node.api.routes import build_api
from agent.node.backups import Backups, night_minute
from agent.node.catalogue import Kinds
from agent.node.commands import Commands, QueueLimits
from agent.node.connection import CoreConnection
from agent.node.control import Control
from agent.node.doctor.examination import Doctor, Patient
from agent.node.duties import Duties
from agent.node.engine import Engine
from agent.node.hands import Hands
from agent.node.ledger import Ledger
from agent.node.lock import lock_exclusively
from agent.node.outbox import bound_outbox
from agent.node.recurring_commands import RecurringCommands
from agent.node.recurring_views import place_of
from agent.node.restored import note_restore
from agent.node.restraint_file import RestraintFile
from agent.node.retention import Retention, prune, waits_for_backup
from agent.node.runner_client import SocketRunner
from agent.node.runner_process import OwnRunner, nothing_to_ensure
from agent.node.scrape import Scrape
from agent.node.settings import Settings
from agent.node.status import Status
from agent.node.store import recurring
from agent.node.store.backup import list_backups
from agent.node.store.damage import StoreDamaged
from agent.node.store.meta import Meta, read_meta, write_meta
from agent.node.store.parking import unpark_all
from agent.node.store.restoring import Opened, Restored, open_store
from agent.node.store.threaded import ThreadedStore
from agent.node.sync.state import SyncState
from agent.version import VERSION

SOCKET_FILE = "agent.sock"
RESTORES_MAX = 3  # of one process: a disk that damages every copy is not mended by another one
READY_WITHOUT_RUNNER_S = 20.0  # a service manager kills a start that takes too long


class Broken(AgentError):
    """One of the daemon's loops died; the log has the traceback."""


class Daemon:
    """Everything of one agentd process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = get_log()
        self._clock = SystemClock()
        self._kinds = Kinds()
        self._ledger = Ledger(secrets.randbits)
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._failed: BaseException | None = None
        self._damage: str | None = None
        """Why the database is to be restored."""
        self._leaving = False

    async def run(self) -> None:
        """From lock to stop. Raises what prevents a start; a stop by signal returns."""
        lock = lock_exclusively(self._settings.state_dir)
        try:
            await self._live_until_stopped()
        finally:
            os.close(lock)
        self._log.info(log_events.STOPPED)

    async def _live_until_stopped(self) -> None:
        """One life after the other: a database that turns out damaged ends one, restored."""
        self._stop_on_signals()
        restores = 0
        while True:
            opened = open_store(self._settings.state_dir, self._clock.now(), self._damage)
            self._damage = None
            opened.store.on_damage = self._database_damaged
            if opened.restored is not None:
                self._log.warning(log_events.DATABASE_RESTORED, **opened.restored.told())
            try:
                await self._serve(opened)
            except StoreDamaged as error:
                self._database_damaged(error.cause)
            finally:
                await opened.store.close()
            if self._damage is None or self._leaving:
                return
            restores += 1
            if restores > RESTORES_MAX:
                raise Broken(f"the database is damaged again and again: {self._damage}; the disk?")
            self._failed, self._kinds = None, Kinds()
            self._tasks.clear()
            self._stop.clear()

    def _database_damaged(self, why: str) -> None:
        """End this life; the next one begins on a restored database."""
        if self._damage is None:
            self._damage = why
            self._log.error(log_events.DATABASE_DAMAGED, error=why)
        self._stop.set()

    async def _serve(self, opened: Opened) -> None:
        store = opened.store
        meta = await store.write(
            lambda c: open_life(
                c,
                self._settings.agent_id,
                secrets.randbits,
                opened.restored,
                self._settings.timezone,
            )
        )
        self._kept = RestraintFile(store=store, state_dir=self._settings.state_dir, log=self._log)
        await self._kept.begin(restored=opened.restored is not None)
        self._backups = Backups(
            store=store, state_dir=self._settings.state_dir, kept=self._settings.backups_kept,
            clock=self._clock, check_first=opened.unchecked, log=self._log,
        )  # fmt: skip
        self._build(store, meta)
        server = HttpServer(build_api(self._context), self._bind())
        self._spawn(self._engine.run())
        self._spawn(self._hands.run())
        await server.start()
        self._spawn(self._duties.run())
        self._spawn(self._backups.run())
        self._spawn(self._announce(meta))
        if self._core is not None:
            self._spawn(self._core.run())
        try:
            await self._stop.wait()
            if self._damage is None:
                notify("STOPPING=1")
                self._log.info(log_events.STOPPING)
        finally:
            await self._end(server)

    def _build(self, store: ThreadedStore, meta: Meta) -> None:
        settings = self._settings
        self._ledger.place = place_of(meta)
        self._runner = SocketRunner(settings.runner_socket, self._ensure_runner())
        self._engine = Engine(
            store=store, ledger=self._ledger, runner=self._runner, kinds=self._kinds,
            clock=self._clock, alarm=WallAlarm, jitter=random.random,
            parallel_max=settings.max_parallel, log=self._log,
        )  # fmt: skip
        self._hands = Hands(
            runner=self._runner, engine=self._engine, store=store, kinds=self._kinds,
            ledger=self._ledger, clock=self._clock, generation=meta.generation, log=self._log,
            scripts_dir=str(settings.scripts_dir.resolve()) if settings.runner == "own" else None,
        )  # fmt: skip
        retention = Retention(
            keep_days=settings.keep_days,
            keep_finished=settings.keep_finished,
            has_core=settings.core is not None,
            waits_for_backup=self._backups.wanted,
        )

        async def forget() -> None:
            if self._engine.believed_now() is not None:  # a year too far would forget everything
                await prune(store, self._runner, self._clock, retention, self._log)

        async def tidy() -> None:
            self._backups.ask_if_old()
            await self._kept.keep_again()
            await bound_outbox(store, self._clock, secrets.randbits, self._log)
            await forget()
            if await store.read(lambda c: waits_for_backup(c, self._clock.now(), retention)):
                self._backups.ask()

        self._duties = Duties(tidy=tidy, log=self._log)
        self._backups.on_made = lambda: self._duties.soon(forget)
        if self._backups.wanted:
            at = settings.backup_at or night_minute(settings.agent_id)
            self._duties.every_night(at, self._backups.ask)
        self._core = self._connect_core(store, meta)
        self._context = self._api_context(store)

    def _connect_core(self, store: ThreadedStore, meta: Meta) -> CoreConnection | None:
        if self._settings.core is None:
            return None
        return CoreConnection(
            settings=self._settings, store=store, ledger=self._ledger, engine=self._engine,
            hands=self._hands, kinds=self._kinds, runner=self._runner, clock=self._clock,
            duties=self._duties, kept=self._kept, agent_id=meta.agent_id, log=self._log,
        )  # fmt: skip

    def _api_context(self, store: ThreadedStore) -> Context:
        settings = self._settings
        commands = Commands(
            store=store, ledger=self._ledger, engine=self._engine, hands=self._hands,
            kinds=self._kinds, clock=self._clock, random_bits=secrets.randbits,
            limits=QueueLimits(queued_max=settings.max_queued, pending_max=settings.max_pending),
        )  # fmt: skip
        by_schedule = RecurringCommands(
            store=store, ledger=self._ledger, engine=self._engine, kinds=self._kinds,
            commands=commands, kept=self._kept,
        )  # fmt: skip
        state = CoreConnection.state_of(self._core)
        status = Status(
            engine=self._engine, hands=self._hands, sync=state, clock=self._clock,
            version=VERSION, backups=self._backups, labels=settings.labels,
        )  # fmt: skip
        token = own_token(settings.state_dir) if settings.listen else None
        return Context(
            store=store, engine=self._engine, hands=self._hands, runner=self._runner,
            kinds=self._kinds, commands=commands, recurring=by_schedule, place=self._ledger.place,
            status=status, clock=self._clock,
            control=Control(
                store=store, engine=self._engine, clock=self._clock, log=self._log,
                kept=self._kept,
            ),
            access=Access(token), doctor=self._doctor(store, state), scrape=self._scrape(state),
            sync_now=self._sync_now, on_failure=self._api_failed,
        )  # fmt: skip

    def _doctor(self, store: ThreadedStore, sync: SyncState) -> Doctor:
        settings = self._settings
        return Doctor(
            Patient(
                engine=self._engine, hands=self._hands, kinds=self._kinds, sync=sync,
                runner=self._runner, store=store, clock=self._clock, version=VERSION,
                database=settings.state_dir / "agent.db", state_dir=settings.state_dir,
                scripts_dir=settings.scripts_dir, listens=settings.listen is not None,
                backup_at=self._backup_at, clock_doubt=self._engine.clock_watch.why_in_doubt,
                backups_wanted=self._backups.wanted,
            )
        )  # fmt: skip

    def _scrape(self, sync: SyncState) -> Scrape:
        return Scrape(
            engine=self._engine, hands=self._hands, sync=sync, clock=self._clock,
            database=self._settings.state_dir / "agent.db", version=VERSION,
            backup_at=self._backup_at, clock_doubt=self._engine.clock_watch.why_in_doubt,
        )  # fmt: skip

    def _backup_at(self) -> datetime | None:
        """When the newest verified backup was made."""
        newest = next(iter(list_backups(self._settings.state_dir)), None)
        return newest.made_at if newest else None

    def _ensure_runner(self) -> Any:
        settings = self._settings
        if settings.runner == "external":
            return nothing_to_ensure
        own = OwnRunner(
            state_dir=settings.state_dir,
            scripts_dir=settings.scripts_dir,
            socket_path=settings.runner_socket,
            parallel_max=settings.max_parallel,
            output_bytes_max=settings.output_bytes_max,
        )
        return own.ensure

    def _bind(self) -> list[socket.socket]:
        sockets = [bind_unix(self._settings.state_dir / SOCKET_FILE)]
        if self._settings.listen is not None:
            tcp = bind_tcp(*self._settings.listen)
            (self._settings.state_dir / "listen").write_text(bound_to(tcp) + "\n")
            sockets.append(tcp)
        return sockets

    async def _announce(self, meta: Meta) -> None:
        """Ready means: every action of the last life has its verdict, and new ones can start.

        Where the runner stays away the API serves all the same, and says so.
        """
        try:
            async with asyncio.timeout(READY_WITHOUT_RUNNER_S):
                await self._hands.recovered.wait()
        except TimeoutError:
            notify("READY=1\nSTATUS=waiting for the runner; nothing starts")
            await self._hands.recovered.wait()
        notify(f"READY=1\nSTATUS=node {meta.agent_id}")  # nothing here that goes stale
        self._log.info(log_events.READY, agent_id=meta.agent_id, version=VERSION)
        if self._hands.was_restored:
            self._backups.ask()  # the next damage must not fall back to that same old copy
        self._duties.tidy_now()
        give_back()

    async def _sync_now(self) -> dict[str, Any]:
        return await CoreConnection.pull_once(self._core)

    def _api_failed(self, error_id: str, method: str, path: str, error: BaseException) -> None:
        self._log.error(
            log_events.API_FAILED, error_id=error_id, method=method, path=path, exc_info=error
        )

    def _stop_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)

    def _asked_to_stop(self) -> None:
        self._leaving = True
        self._stop.set()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        """A loop that dies takes the daemon down: a restart is clean, half a daemon is not."""
        if not task.cancelled() and isinstance(task.exception(), StoreDamaged):
            self._stop.set()
        elif not task.cancelled() and task.exception() is not None:
            self._failed = task.exception()
            self._stop.set()
            self._log.error(log_events.TASK_DIED, exc_info=task.exception())

    async def _end(self, server: HttpServer) -> None:
        self._engine.changes.close()
        await server.stop(self._settings.stop_grace_s)
        remove_socket(self._settings.state_dir / SOCKET_FILE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._core is not None:
            await self._core.close()
        await self._runner.close()
        if self._failed is not None and self._damage is None:
            raise Broken(f"stopped because of an error of ours: {self._failed!r}; see the log")


def open_life(
    connection: sqlite3.Connection, agent_id: str, random_bits: RandomBits,
    restored: Restored | None = None, zone: str = "",
) -> Meta:  # fmt: skip
    """A new generation; an identity where there is none; another look at what was parked."""
    if restored is not None:
        note_restore(connection, restored, random_bits)
    meta = read_meta(connection)
    if meta.version != VERSION:
        unpark_all(connection)
        write_meta(connection, version=VERSION)
    recurring.unpark(connection)
    write_meta(connection, generation=meta.generation + 1, zone=zone or meta.zone)
    if not meta.enrolled and meta.agent_id != agent_id:
        write_meta(connection, agent_id=agent_id)
    if not meta.agent_epoch:
        write_meta(connection, agent_epoch=new_mark(random_bits))
    return read_meta(connection)


def run_daemon(settings: Settings) -> None:
    """`agentd` in the foreground, until a signal."""
    with suppress(KeyboardInterrupt):
        asyncio.run(Daemon(settings).run())
