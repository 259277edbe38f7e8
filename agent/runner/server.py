"""The socket: who may connect, how many, and who gets notices. What is asked is answered elsewhere.

The peer's identity is the kernel's (SO_PEERCRED), not what a file mode happens to allow.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from typing import Any

from agent.runner.connection import Connection
from agent.runner.limits import ACCEPT_AGAIN_S, CONNECTIONS_MAX, SOCKET_PATH_BYTES_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.runner.journal import Journal
    from agent.runner.loop import Loop

_BACKLOG = 16


class SocketTaken(Exception):
    """The path cannot be listened on; the message says why and what to do."""


def listen(path: str, agent_uid: int | None, handed: int | None = None) -> socket.socket:
    """Listen on `path`, replacing what a dead runner left there and nothing else.

    `handed` listens already: it is ours from before we executed ourselves anew.

    A path beyond the kernel's 107 bytes is reached through its directory; `agentd` does the same.
    """
    if handed is not None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=handed)
        listener.setblocking(False)
        return listener
    try:
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SocketTaken(f"cannot listen on {path}: {error.strerror}") from None
    try:
        too_long = len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX - len(".new")
        near = f"/proc/self/fd/{directory}/{os.path.basename(path)}" if too_long else path
        return _bind(path, near, agent_uid)
    finally:
        os.close(directory)


def _bind(path: str, near: str, agent_uid: int | None) -> socket.socket:
    """`near` names the same place as `path`, short enough for the kernel."""
    _remove_stale(path, near)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    temporary = near + ".new"
    try:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        listener.bind(temporary)
        os.chmod(temporary, 0o600)
        _admit(temporary, agent_uid)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        os.rename(temporary, near)  # whoever finds it can connect at once
    except OSError as error:
        listener.close()
        raise SocketTaken(f"cannot listen on {path}: {error.strerror}") from None
    return listener


def _admit(path: str, agent_uid: int | None) -> None:
    """Let the agent's user connect. The peer check decides; the mode must not stand in its way."""
    if agent_uid is None or agent_uid == os.getuid():
        return
    if os.getuid() == 0:
        os.chown(path, agent_uid, -1)
    else:
        os.chmod(path, 0o666)  # noqa: S103 - see above


def _remove_stale(path: str, near: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketTaken(f"{path} exists and is no socket; remove it or name another by --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(near)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:
            pass  # EAGAIN: a full backlog is alive, too
    raise SocketTaken(f"another process listens on {path}; stop it or name another by --socket")


class Server:
    """All connected clients."""

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        journal: Journal,
        allowed_uids: frozenset[int],
        on_line: Callable[[Connection, bytes], None],
        on_change: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._journal = journal
        self._allowed_uids = allowed_uids
        self._on_line = on_line
        self._on_change = on_change
        self._newest: Connection | None = None
        self.connections: set[Connection] = set()
        self.was_visited = False
        loop.watch(listener.fileno(), self._accept)

    def close(self, path: str) -> None:
        """Stop listening. The path goes first: who comes late sees at once that nobody is here."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        for connection in list(self.connections):
            connection.close()

    @property
    def listener_fd(self) -> int:
        """The listening socket's descriptor."""
        return self._listener.fileno()

    def send_notice(self, message: dict[str, Any]) -> None:
        """To the connection with the newest hello, if it is still there."""
        if self._newest is not None:
            self._newest.send(message)

    def set_newest(self, connection: Connection) -> None:
        """It said hello last: notices go there."""
        self._newest = connection

    def _accept(self, _events: int) -> None:
        try:
            peer, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            self._journal.write("accept_failed", error=error.strerror)
            # It stays readable: looking again at once would be a loop that fills the log.
            self._loop.forget(self._listener.fileno())
            self._loop.call_in(ACCEPT_AGAIN_S, self._listen_again)
            return
        uid = _peer_uid(peer)
        if uid not in self._allowed_uids:
            self._journal.write("peer_refused", uid=uid)
            peer.close()
            return
        if len(self.connections) >= CONNECTIONS_MAX:
            self._journal.write("too_many_connections", limit=CONNECTIONS_MAX)
            peer.close()
            return
        self.was_visited = True
        self.connections.add(Connection(self._loop, peer, self._on_line, self._closed))
        self._on_change()

    def _listen_again(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.watch(self._listener.fileno(), self._accept)

    def _closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if self._newest is connection:
            self._newest = None
        self._on_change()


def _peer_uid(peer: socket.socket) -> int:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)
