"""The wiring of `cored`: the one module that sees all of the core."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute

from agent.core import admin, log_events, state_dir
from agent.core.actions.service import Dispatch
from agent.core.actions.terms import Terms
from agent.core.api.access_routes import AccessRoutes
from agent.core.api.approval_routes import ApprovalRoutes
from agent.core.api.dispatch_routes import DispatchRoutes
from agent.core.api.event_routes import EventRoutes
from agent.core.api.fleet_routes import FleetRoutes
from agent.core.api.metric_routes import MetricRoutes
from agent.core.api.node_routes import NodeRoutes
from agent.core.api.operator_routes import OperatorRoutes
from agent.core.api.recurring_routes import RecurringRoutes
from agent.core.api.rule_routes import RuleRoutes
from agent.core.api.webhook_routes import WebhookRoutes
from agent.core.approvals import deciding
from agent.core.approvals.judging import ApprovalTerms
from agent.core.approvals.service import Approvals
from agent.core.events.outgoing import Outgoing
from agent.core.events.patience import Patience
from agent.core.keep import Keep
from agent.core.loops import Loop, running
from agent.core.metrics import Metrics, Sources
from agent.core.nodes.fleet import Fleet
from agent.core.nodes.node_api import HttpNodeApi
from agent.core.nodes.nudging import Nudging
from agent.core.nodes.protocol import NodeProtocol
from agent.core.nodes.roster import Roster
from agent.core.nodes.silence import Lease, Silence
from agent.core.occasion import Occasion
from agent.core.people.access import Access
from agent.core.people.door import Door
from agent.core.recurring.service import RecurringService
from agent.core.retention import Retention, ensure_armed
from agent.core.rules.book import RuleBook
from agent.core.rules.hangup import reload_on_hangup
from agent.core.rules.keeper import LiveRules, RuleKeeper
from agent.core.rules.loading import load_rules
from agent.core.scrape import Scrape
from agent.core.settings import Settings
from agent.core.store.database import Database, database_of
from agent.core.store.metered import MeteredStore
from agent.core.store.migrate import migrate
from agent.core.store.port import Store, StoreUnavailable
from agent.core.store.threaded import ThreadedStore
from agent.core.timer_loop import TimerLoop
from agent.core.timers import Handler, TimerKind
from agent.core.wakeups import Wakeups
from agent.domain.errors import AgentError
from agent.domain.ids import RandomBits
from agent.infra.asgi import REQUESTS_MAX, Edge
from agent.infra.clock import Clock, SystemClock
from agent.infra.descriptors import OTHERS_MAX, connections_within, raise_limit
from agent.infra.http_server import HttpServer, Limits, bind_tcp, bound_to
from agent.infra.logs import get_log
from agent.infra.memory import give_back, use_one_arena
from agent.infra.notify import notify
from agent.version import VERSION

STOP_GRACE_S = 10.0
SPARE_CONNECTIONS = 64  # beyond the places for requests: who asks how we are gets an answer
_SPARED_PATHS = frozenset({"/healthz", "/metrics"})  # also while every place is a long poll's
_LOCAL_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class Core:
    """The services over one store."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random_bits: RandomBits,
        *,
        terms: Terms | None = None,
        public_url: str | None = None,
        book: RuleBook | None = None,
        rules_dir: Path | None = None,
        patience: Patience | None = None,
        keep: Keep | None = None,
        lease: Lease | None = None,
    ) -> None:
        self.metrics = Metrics()
        self.metered = store = MeteredStore(store, clock.monotonic, self.metrics.store_took)
        self.scrape = Scrape(store, clock.monotonic)
        self.wakeups = Wakeups()
        # Each part adds its own: what fires a kind of timer, what runs for ever.
        self.timer_handlers: dict[TimerKind, Handler] = {}
        self.loops: dict[str, Loop] = {}
        live = LiveRules(clock, book)
        self.rules = RuleKeeper(store, clock, random_bits, self.wakeups, live, rules_dir)
        if book is not None:
            terms = replace(terms or Terms(), rules=live)
        self.nodes = NodeProtocol(store, clock, random_bits, self.wakeups)
        self.dispatch = Dispatch(store, clock, random_bits, self.wakeups, terms)
        self.approvals = Approvals(store, clock, random_bits, self.wakeups)
        self.timer_handlers[TimerKind.APPROVAL_EXPIRES] = deciding.expire
        self.recurring = RecurringService(store, clock, random_bits, self.wakeups, terms)
        self.timer_handlers |= self.recurring.timer_handlers()
        self.public_url = public_url
        lease = lease or Lease()
        self.roster = Roster(store, clock, random_bits, self.wakeups, lease)
        presence = self.nodes.presence
        self.fleet = Fleet(store, clock, random_bits, self.wakeups, presence)
        self.nudging = Nudging(store, clock, random_bits, self.wakeups, self.nodes, HttpNodeApi())
        self.timer_handlers |= Silence(lease, presence, clock.now()).handlers()
        self.loops["presence"] = presence.run
        self.door = Door(store, clock, random_bits)
        self.outgoing = Outgoing(
            store, clock, random_bits, self.wakeups, log=get_log(), patience=patience
        )
        self.loops["webhooks"] = self.outgoing.courier.run
        self.retention = Retention(keep or Keep())
        self.timer_handlers[TimerKind.PRUNE] = self.retention.handle
        self.sources = Sources(
            wakeups=self.wakeups,
            hub=self.outgoing.hub,
            webhook_tally=self.outgoing.delivery.tally,
            removed=self.retention.removed,
            dispatched=self.dispatch.outcomes,
            rules_matched=live.matched,
            store=self.metered,
            arrivals=self.nodes.arrivals,
        )
        self.under_way: Callable[[], int] = lambda: 0
        self.access = Access(store, clock, random_bits, self.door.forget)

    async def expose(self) -> bytes:
        """What `/metrics` answers."""
        counted = await self.scrape.counted()
        return self.metrics.exposition(counted, self.sources, self.under_way())


def build_edge(core: Core, log: Any, requests_max: int = REQUESTS_MAX) -> Edge:
    """The whole API of a core."""

    def on_failure(error_id: str, method: str, path: str, error: BaseException) -> None:
        log.error(
            log_events.REQUEST_FAILED, error_id=error_id, method=method, path=path, exc_info=error
        )

    edge = Edge(
        routes_of(core, log),
        on_failure,
        on_answer=core.metrics.answered,
        requests_max=requests_max,
        spared_paths=_SPARED_PATHS,
    )
    core.under_way = lambda: edge.under_way
    return edge


def routes_of(core: Core, log: Any) -> list[BaseRoute]:
    """Every route; a test asks each of them without a token."""
    return [
        *NodeRoutes(core.nodes, log).routes(),
        *OperatorRoutes().routes(),
        *FleetRoutes(core.door, core.roster, core.fleet, core.nudging).routes(),
        *DispatchRoutes(core.door, core.dispatch).routes(),
        *RecurringRoutes(core.door, core.recurring).routes(),
        *ApprovalRoutes(core.door, core.approvals, core.public_url).routes(),
        *EventRoutes(core.door, core.outgoing.stream).routes(),
        *WebhookRoutes(core.door, core.outgoing.registry).routes(),
        *MetricRoutes(core.door, core.expose).routes(),
        *AccessRoutes(core.door, core.access).routes(),
        *RuleRoutes(core.door, core.rules).routes(),
    ]


def run_core(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises `AgentError` or OSError when it cannot start."""
    use_one_arena()
    database = database_of(settings.database)
    book = RuleBook() if settings.rules_dir is None else load_rules(settings.rules_dir)
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.ExitStack() as locks:
        for file in state_dir.lock_files(settings.state_dir, database.file):
            locks.callback(os.close, state_dir.lock_exclusively(file))
        migrate(database)
        asyncio.run(_serve(settings, database, book))


async def _serve(settings: Settings, database: Database, book: RuleBook) -> None:
    log = get_log()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    store = ThreadedStore(database, lambda problem: _say_trouble(problem, log))
    store.open()
    log.info(log_events.STATE_OPENED, state_dir=str(settings.state_dir))
    try:
        await _ensure_admin(settings.state_dir, store, log, is_shared=database.file is None)
        core = Core(
            store,
            SystemClock(),
            secrets.randbits,
            terms=_terms_of(settings),
            public_url=settings.public_url,
            book=book,
            rules_dir=settings.rules_dir,
            patience=settings.patience,
            keep=settings.keep,
            lease=settings.lease,
        )
        occasion = Occasion(SystemClock().now(), secrets.randbits)
        await store.write(lambda c: ensure_armed(c, occasion))
        _add_loops(core, store, database, log)
        reload_on_hangup(core.rules, log)
        sock = _bind(*settings.listen)
        connections_max = _connections_max(settings, log)
        server = HttpServer(
            build_edge(core, log, connections_max),
            [sock],
            Limits(connections_max=connections_max + SPARE_CONNECTIONS),
        )
        await server.start()
        listen_file = settings.state_dir / state_dir.LISTEN_FILE
        state_dir.write_whole(listen_file, f"{bound_to(sock)}\n")
        give_back()
        async with running(core.loops, lambda name, error: _say_failed(name, error, log)):
            _say_ready(settings, bound_to(sock), log)
            await stopping.wait()
        log.info(log_events.STOPPING)
        notify("STOPPING=1")
        with contextlib.suppress(FileNotFoundError):
            listen_file.unlink()
        core.wakeups.close()
        await server.stop(STOP_GRACE_S)
        with contextlib.suppress(StoreUnavailable):  # when nodes were seen last: nice to have
            await core.nodes.presence.flush()
        await core.outgoing.close()
    finally:
        await store.close()
    log.info(log_events.STOPPED)


def _add_loops(core: Core, store: ThreadedStore, database: Database, log: Any) -> None:
    """The timers' loop; and on PostgreSQL the ear for other processes."""
    store.on_announced = core.wakeups.hear

    def on_failure(timer: str, error: BaseException) -> None:
        log.error(log_events.TIMER_FAILED, timer=timer, exc_info=error)

    core.loops["timers"] = TimerLoop(
        store,
        SystemClock(),
        secrets.randbits,
        core.wakeups,
        core.timer_handlers,
        shared=database.file is None,
        on_failure=on_failure,
    ).run
    if database.file is None:
        # Here, so that a core over SQLite does without the driver of PostgreSQL.
        from agent.core.neighbours import Neighbours  # noqa: PLC0415
        from agent.core.store.postgres import PostgresDatabase  # noqa: PLC0415

        assert isinstance(database, PostgresDatabase)

        def on_trouble(problem: str | None) -> None:
            if problem is None:
                log.info(log_events.LISTENING_AGAIN)
            else:
                log.warning(log_events.LISTENING_FAILED, error=problem)

        core.loops["neighbours"] = Neighbours(database, store, core.wakeups, on_trouble).run


def _say_failed(loop: str, error: BaseException, log: Any) -> None:
    log.error(log_events.LOOP_FAILED, loop=loop, exc_info=error)


def _terms_of(settings: Settings) -> Terms:
    """What every dispatch is measured by."""
    return Terms(
        approvals=ApprovalTerms(policy=settings.approval_policy, ttl_s=settings.approval_ttl_s),
        default_target=settings.default_target,
    )


def _connections_max(settings: Settings, log: Any) -> int:
    """As many as are wanted and possible: beyond, `accept` would fail for everybody."""
    wanted, descriptors = settings.connections_max, raise_limit()
    possible = connections_within(wanted, descriptors)
    if possible < wanted - OTHERS_MAX:
        log.warning(
            log_events.FEW_DESCRIPTORS,
            connections_max=wanted,
            possible=possible,
            limit=descriptors,
            hint="raise LimitNOFILE= of the unit, or lower connections_max",
        )
    return possible


def _bind(host: str, port: int) -> socket.socket:
    try:
        return bind_tcp(host, port)
    except OSError as error:
        raise AgentError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; give another --listen"
        ) from None


def _say_trouble(problem: str | None, log: Any) -> None:
    if problem is None:
        log.info(log_events.STORE_RECOVERED)
    else:
        log.error(log_events.STORE_FAILED, error=problem)


def _say_ready(settings: Settings, listen: str, log: Any) -> None:
    if settings.listen[0] not in _LOCAL_HOSTS:
        log.warning(log_events.LISTENING_IN_THE_CLEAR, listen=listen)
    log.info(log_events.READY, listen=listen, pid=os.getpid(), version=VERSION)
    notify(f"READY=1\nSTATUS=listening on {listen}")


async def _ensure_admin(directory: Path, store: Store, log: Any, *, is_shared: bool) -> None:
    """On the first start, whoever reads `admin.token` may operate.

    Of several cores on one database each has a token of its own: they may be on as many machines.
    """
    token = state_dir.read_token(directory)
    if token is not None and state_dir.is_readable_by_others(directory):
        log.warning(log_events.ADMIN_TOKEN_READABLE, file=str(directory / state_dir.TOKEN_FILE))
    occasion = Occasion(SystemClock().now(), secrets.randbits)
    if token is None and (is_shared or not await store.read(admin.is_anybody_known)):
        # The file first: a token that is known and that nobody has would lock everybody out.
        token = occasion.new_secret()
        state_dir.write_token(directory, token)
        log.info(log_events.ADMIN_TOKEN_WRITTEN, file=str(directory / state_dir.TOKEN_FILE))
    if token is not None:
        known = token
        await store.write(lambda c: admin.ensure_known(c, occasion, known))
