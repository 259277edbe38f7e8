"""The wiring of `cored`: the one module that sees all of the core."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute

from agent.core import admin, log_events, state_dir
from agent.core.actions.service import Dispatch
from agent.core.api.node_routes import NodeRoutes
from agent.core.api.operator_routes import OperatorRoutes
from agent.core.nodes.protocol import NodeProtocol
from agent.core.nodes.roster import Roster
from agent.core.occasion import Occasion
from agent.core.people.door import Door
from agent.core.settings import Settings
from agent.core.store.dialect import file_of, require_supported
from agent.core.store.migrate import migrate
from agent.core.store.port import Store
from agent.core.store.threaded import ThreadedStore
from agent.core.wakeups import Wakeups
from agent.domain.errors import AgentError
from agent.domain.ids import RandomBits
from agent.infra.asgi import Edge
from agent.infra.clock import Clock, SystemClock
from agent.infra.http_server import HttpServer, bind_tcp, bound_to
from agent.infra.logs import get_log
from agent.infra.notify import notify
from agent.version import VERSION

STOP_GRACE_S = 10.0
_LOCAL_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class Core:
    """The services over one store."""

    def __init__(self, store: Store, clock: Clock, random_bits: RandomBits) -> None:
        self.wakeups = Wakeups()
        self.nodes = NodeProtocol(store, clock, random_bits, self.wakeups)
        self.dispatch = Dispatch(store, clock, random_bits, self.wakeups)
        self.roster = Roster(store, clock, random_bits, self.wakeups)
        self.door = Door(store, clock, random_bits)


def build_edge(core: Core, log: Any) -> Edge:
    """The whole API of a core."""

    def on_failure(error_id: str, method: str, path: str, error: BaseException) -> None:
        log.error(
            log_events.REQUEST_FAILED, error_id=error_id, method=method, path=path, exc_info=error
        )

    return Edge(routes_of(core, log), on_failure)


def routes_of(core: Core, log: Any) -> list[BaseRoute]:
    """Every route; a test asks each of them without a token."""
    return [
        *NodeRoutes(core.nodes, log).routes(),
        *OperatorRoutes(core.door, core.dispatch, core.roster).routes(),
    ]


def run_core(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises `AgentError` or OSError when it cannot start."""
    require_supported(settings.database)
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.ExitStack() as locks:
        for file in state_dir.lock_files(settings.state_dir, file_of(settings.database)):
            locks.callback(os.close, state_dir.lock_exclusively(file))
        migrate(settings.database)
        asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    log = get_log()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    store = ThreadedStore(settings.database, lambda problem: _say_trouble(problem, log))
    store.open()
    log.info(log_events.STATE_OPENED, state_dir=str(settings.state_dir))
    try:
        await _ensure_admin(settings.state_dir, store, log)
        core = Core(store, SystemClock(), secrets.randbits)
        sock = _bind(*settings.listen)
        server = HttpServer(build_edge(core, log), [sock])
        await server.start()
        listen_file = settings.state_dir / state_dir.LISTEN_FILE
        state_dir.write_whole(listen_file, f"{bound_to(sock)}\n")
        _say_ready(settings, bound_to(sock), log)
        await stopping.wait()
        log.info(log_events.STOPPING)
        notify("STOPPING=1")
        with contextlib.suppress(FileNotFoundError):
            listen_file.unlink()
        core.wakeups.close()
        await server.stop(STOP_GRACE_S)
    finally:
        await store.close()
    log.info(log_events.STOPPED)


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


async def _ensure_admin(directory: Path, store: Store, log: Any) -> None:
    """On the first start, whoever reads `admin.token` may operate."""
    token = state_dir.read_token(directory)
    if token is not None and state_dir.is_readable_by_others(directory):
        log.warning(log_events.ADMIN_TOKEN_READABLE, file=str(directory / state_dir.TOKEN_FILE))
    occasion = Occasion(SystemClock().now(), secrets.randbits)
    if token is None and not await store.read(admin.is_anybody_known):
        # The file first: a token that is known and that nobody has would lock everybody out.
        token = occasion.new_secret()
        state_dir.write_token(directory, token)
        log.info(log_events.ADMIN_TOKEN_WRITTEN, file=str(directory / state_dir.TOKEN_FILE))
    if token is not None:
        known = token
        await store.write(lambda c: admin.ensure_known(c, occasion, known))
