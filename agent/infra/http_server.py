"""uvicorn behind sockets that we bind ourselves, for TCP and Unix sockets; used by both daemons.

Its own `main_loop` wakes ten times a second, it takes over SIGTERM, and it opens new Unix sockets
to everyone: so only `startup` and `shutdown` are used, and a connection's peer is found here.
Nothing of it runs while nobody calls.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.infra.unix_path import socket_address

BACKLOG = 1024
UPLOAD_GRACE_S = 2.0  # of the time to stop: for bodies that are on their way
UNREAD_MS_MAX = 60_000  # what a peer leaves unread for so long: the kernel cuts the connection
_UCRED = struct.Struct("iII")  # struct ucred: pid_t, uid_t, gid_t
_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: 75\r\n\r\n"
    b'{"error":"bad_request","message":"this is not a well-formed HTTP request"}\n'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one server bears; a connection beyond is closed at once."""

    connections_max: int = 4096
    keep_alive_s: int = 75
    header_s: float = 20.0
    """From the connection, and later from a request's first byte, to its complete head; and for
    what is left of a body that was answered already. Silence and drops hold no place."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a Unix socket, as the kernel says. `request.state.peer`."""

    pid: int
    uid: int
    gid: int


def bind_tcp(host: str, port: int) -> socket.socket:
    """A listening-to-be TCP socket; port 0 takes a free one. OSError says what is wrong."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_unix(path: Path, mode: int = 0o600) -> socket.socket:
    """A Unix socket at `path`, which never has another mode: it is renamed into place.

    Replaces what is there, so the caller must hold the directory's lock.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket_address(fresh) as address:
            sock.bind(address)
        fresh.chmod(mode)
        sock.listen(BACKLOG)  # before it can be found, so that nobody is ever refused
        fresh.rename(path)
    except BaseException:
        sock.close()
        raise
    return sock


def bound_to(sock: socket.socket) -> str:
    """`HOST:PORT` of a bound TCP socket."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Line:
    """One connection, for an endpoint that waits or streams. `request.state.line`.

    Cheaper than a task per request that waits for the hang-up: a long poll costs one callback.
    """

    __slots__ = ("_transport", "hung_up", "is_gone")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.is_gone = False
        self.hung_up: Callable[[], None] | None = None
        """Called when the peer goes away; set by whoever waits, and taken back after."""

    def abort(self) -> None:
        """Cut the connection; what was not sent yet is dropped."""
        self._transport.abort()

    def lost(self) -> None:
        """The connection has ended."""
        self.is_gone = True
        if self.hung_up is not None:
            self.hung_up()


class _Protocol(H11Protocol):
    """uvicorn's h11 protocol, with the peer's identity, a cap and a deadline for request heads."""

    limits = Limits()
    _deadline: asyncio.TimerHandle | None = None
    _line: Line | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections_max:
            transport.abort()
            return
        self._line = Line(transport)
        self.app_state = {**self.app_state, "line": self._line}
        sock = transport.get_extra_info("socket")
        if sock.family == socket.AF_UNIX:
            # Read once: the kernel keeps what was true at connect().
            raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            self.app_state["peer"] = Peer(*_UCRED.unpack(raw))
        else:
            # A peer that vanished under a long poll is noticed by the kernel.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS_MAX)
        self._deadline = self.loop.call_later(self.limits.header_s, self._too_slow)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # While nothing is under way, uvicorn's keep-alive timer watches; a byte stops that one.
        under_way = self.cycle is not None and not self.cycle.response_complete
        if under_way and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        elif not under_way and self._deadline is None:
            self._deadline = self.loop.call_later(self.limits.header_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)
        if self._line is not None:
            self._line.lost()

    def cut_upload(self) -> None:
        """Close the connection if the body of its request has not arrived yet."""
        if self.cycle is not None and self.cycle.more_body and not self.cycle.response_complete:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(_BAD_REQUEST)
        self.transport.close()

    def _too_slow(self) -> None:
        self._deadline = None
        self.transport.close()


class HttpServer:
    """One application on several bound sockets. `start`, then `stop`; no signal handlers."""

    def __init__(
        self, app: Any, sockets: Sequence[socket.socket], limits: Limits | None = None
    ) -> None:
        chosen = limits or Limits()
        # Its log is silenced, not configured: failures of ours are logged once, in the edge.
        logging.getLogger("uvicorn").addHandler(logging.NullHandler())
        logging.getLogger("uvicorn").propagate = False
        config = uvicorn.Config(
            app,
            loop="none",
            http=type("LimitedProtocol", (_Protocol,), {"limits": chosen}),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=chosen.keep_alive_s,
        )
        config.load()
        self._sockets = list(sockets)
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)

    async def start(self) -> None:
        """Accept connections from now on."""
        await self._server.startup(sockets=self._sockets)

    async def stop(self, grace_s: float = 5.0) -> None:
        """Accept no more, let requests that are under way end within the grace, close."""
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        loop = asyncio.get_running_loop()
        cutting = loop.call_later(min(UPLOAD_GRACE_S, grace_s), self._cut_uploads)
        try:
            await self._server.shutdown(sockets=self._sockets)
        finally:
            cutting.cancel()

    def _cut_uploads(self) -> None:
        """Bodies that are still coming in hold nothing up: whoever sends them sends them again."""
        for connection in list(self._server.server_state.connections):
            if isinstance(connection, _Protocol):
                connection.cut_upload()


def remove_socket(path: Path) -> None:
    """Take a Unix socket's name away; a caller then learns at once that nobody is there."""
    if path.is_socket():
        os.unlink(path)  # noqa: PTH108  (Path.unlink with missing_ok hides a race we want to see)
