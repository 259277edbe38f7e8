"""The core as a process of the simulation: the real services over one database that outlives them.

Each life of it has services of its own; a kill loses what was under way and keeps what was
committed. Writes wait a seeded while before and after their commit, in order.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import Connection

from agent.core.actions.service import Dispatch
from agent.core.actions.terms import Terms
from agent.core.approvals import deciding
from agent.core.approvals.service import Approvals
from agent.core.nodes.fleet import Fleet
from agent.core.nodes.protocol import NodeProtocol
from agent.core.nodes.roster import Roster
from agent.core.nodes.silence import Lease, Silence
from agent.core.store.inline import InlineStore
from agent.core.store.port import StoreUnavailable, Work
from agent.core.store.schema import metadata
from agent.core.store.sqlite import open_engine
from agent.core.timer_loop import OnFailure, TimerLoop
from agent.core.timers import TimerKind
from agent.core.wakeups import Wakeups
from agent.domain.errors import AgentError, Refused
from agent.domain.ids import RandomBits
from agent.infra.clock import Clock
from agent.node.sync.port import CoreRefused, CoreUnreachable
from tests.fakes.inline_node_store import STEP_S, at_once
from tests.fakes.virtual_loop import Life, wait_any

T = TypeVar("T")
RETRY_AFTER_S = 3.0  # what a core without disk asks for

_engine: Any = None
_template: bytes = b""
_content: bytes = b""  # of the next connection that the engine opens


def open_core_database(content: bytes | None = None) -> Connection:
    """A core database in memory, empty or as `content` has it, on a connection of its own.

    The engine is one per process: it keeps compiled statements. The one connection that it had
    before is closed. SQLite may crash where statements outlive a `deserialize`, so a connection
    gets its content before anything else.
    """
    global _engine, _template, _content  # noqa: PLW0603
    if _engine is None:
        _engine = open_engine("sqlite:///:memory:", writes=True)
        event.listen(_engine, "do_connect", _connect)
        with _engine.begin() as connection:
            metadata.create_all(connection)
            _template = raw_connection(connection).serialize()
    _content = _template if content is None else content
    _engine.dispose()
    return _engine.connect()  # type: ignore[no-any-return]


def _connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
    connection = dialect.connect(*arguments, **options)
    if _content:
        connection.deserialize(_content)
    return connection


def raw_connection(connection: Connection) -> sqlite3.Connection:
    """The driver's own, for backups and for readers that trust nobody's mapping."""
    raw: sqlite3.Connection = connection.connection.dbapi_connection  # type: ignore[assignment]
    return raw


class PacedStore:
    """The core's store: in order, with pauses before and after the commit."""

    def __init__(self, inner: InlineStore, pause_s: Callable[[], float], life: Life) -> None:
        self._inner = inner
        self._pause_s = pause_s
        self._life = life
        self._write_s = 0.0
        self.disk_full = False

    async def write(self, work: Work[T]) -> T:
        """Run and commit, after what was asked before."""
        now_s = asyncio.get_running_loop().time()
        self._write_s = max(now_s + self._pause_s(), self._write_s + STEP_S)
        await asyncio.sleep(self._write_s - now_s)
        self._life.require()
        if self.disk_full:
            raise StoreUnavailable("the disk is full")
        result = await self._inner.write(work)
        await asyncio.sleep(self._pause_s())
        return result

    async def read(self, work: Work[T]) -> T:
        """Run on what is committed."""
        await asyncio.sleep(self._pause_s())
        self._life.require()
        return await self._inner.read(work)


class Services:
    """One life of `cored`."""

    def __init__(
        self, connection: Connection, clock: Clock, random_bits: RandomBits,
        pause_s: Callable[[], float], number: int, terms: Terms | None = None,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.random_bits = random_bits
        self.life = Life(f"core-{number}")
        inner = InlineStore(connection)
        self.store = PacedStore(inner, pause_s, self.life)
        common = (self.store, clock, random_bits, Wakeups())
        self.protocol = NodeProtocol(*common)
        self.dispatch = Dispatch(*common, terms)
        self.roster = Roster(*common)
        self.approvals = Approvals(*common)
        self.fleet = Fleet(*common, self.protocol.presence)
        self.wakeups = common[3]
        inner.on_announced = self.wakeups.hear
        self.started_at = clock.now()

    def tend(self, lease: Lease, on_failure: OnFailure) -> None:
        """Run what `cored` runs for ever: what nodes were heard of, and its timers."""
        presence, store = self.protocol.presence, self.store
        handlers = Silence(lease, presence, self.started_at).handlers()
        timers = TimerLoop(
            store, self.clock, self.random_bits, self.wakeups,
            {**handlers, TimerKind.APPROVAL_EXPIRES: deciding.expire},
            shared=False, on_failure=on_failure,
        )  # fmt: skip
        for name, loop in (("presence", presence.run), ("timers", timers.run)):
            self.life.spawn(_watched(name, loop(), on_failure))


class SimCore:
    """The core and its machine."""

    def __init__(
        self, clock: Clock, random_bits: RandomBits, pause_s: Callable[[], float] = at_once,
        watch: Callable[..., None] = lambda *_, **__: None,
        terms: Terms | None = None, lease: Lease | None = None,
    ) -> None:  # fmt: skip
        """With a `lease` its loops run as well."""
        self._terms = terms
        self._lease = lease
        self.clock = clock
        self._watch = watch
        self.random_bits = random_bits
        self._pause_s = pause_s
        self._number = 0
        self.connection = open_core_database()
        self.services: Services | None = None
        self.start()

    def start(self) -> None:
        """The next life."""
        self._number += 1
        self.services = Services(
            self.connection, self.clock, self.random_bits, self._pause_s, self._number, self._terms
        )
        if self._lease is not None:
            self.services.tend(self._lease, self._failed)

    def _failed(self, what: str, error: BaseException) -> None:
        self._watch("core_bug", error=f"{what}: {error!r}")

    def crash(self) -> None:
        """kill -9."""
        services, self.services = self.services, None
        if services is not None:
            services.life.kill()

    def close(self) -> None:
        """The end of the simulation."""
        self.crash()
        self.connection.close()

    def backup(self) -> bytes:
        """A copy of everything committed."""
        return raw_connection(self.connection).serialize()

    def knows_credentials(self, nodes: int) -> bool:
        """Whether so many nodes have used their credential."""
        query = "SELECT count(DISTINCT agent_id) FROM credentials WHERE used_at IS NOT NULL"
        return bool(raw_connection(self.connection).execute(query).fetchone()[0] >= nodes)

    def restore(self, copy: bytes) -> None:
        """An older database takes the place of this one. Only while the core is down."""
        assert self.services is None, "a running core's database is never replaced"
        self.connection.close()
        self.connection = open_core_database(copy)

    async def serve(self, call: Callable[[Services], Awaitable[T]]) -> T:
        """A request to this life; raises what a client of the HTTP interface would learn."""
        services = self.services
        if services is None:
            raise CoreUnreachable("connection refused")
        task: asyncio.Task[T] = services.life.spawn(_run(call, services))
        await wait_any(task)
        if task.cancelled():
            raise CoreUnreachable("the connection was reset")
        try:
            return task.result()
        except Refused as error:
            raise as_seen_by_a_node(error) from None
        except AgentError:
            raise
        except Exception as error:
            self._watch("core_bug", error=repr(error))
            raise CoreUnreachable(f"500: {error!r}") from error


async def _watched(name: str, loop: Awaitable[None], on_failure: OnFailure) -> None:
    try:
        await loop
    except Exception as error:  # noqa: BLE001  (whatever ends a loop is a bug of ours)
        on_failure(name, error)


async def _run(call: Callable[[Services], Awaitable[T]], services: Services) -> T:
    return await call(services)


def as_seen_by_a_node(error: Refused) -> CoreRefused | CoreUnreachable:
    """The statuses of the HTTP interface: 503 is unreachable, every other refusal is one."""
    if error.code == "unavailable":
        return CoreUnreachable(str(error), retry_after_s=RETRY_AFTER_S)
    return CoreRefused(error.code, str(error), getattr(error, "expected", None))
