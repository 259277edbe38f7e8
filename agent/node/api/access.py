"""Who may call: on the Unix socket the kernel says who it is, over TCP a bearer token does."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from starlette.requests import Request

from agent.domain.errors import Refused
from agent.infra.asgi import bearer_token
from agent.node.credential import write_private

TOKEN_FILE = "api.token"  # noqa: S105  (a file's name)
TOKEN_BYTES_MAX = 4096
_OTHERS = 0o077


class TokenFile:
    """The token as the file has it now: replacing the file is all that a rotation takes.

    A file that others may read is no secret, so nobody gets in by it; `doctor` says so.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._token: str | None = None

    def current(self) -> str | None:
        """The token, or None where there is none that could be used. Reads the file if changed."""
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode)
            if seen != self._seen:
                closed = not status.st_mode & _OTHERS
                self._token = self._read() if closed else None
                self._seen = seen
        except (OSError, ValueError):
            self._seen, self._token = None, None
        return self._token

    def _read(self) -> str | None:
        with self._path.open(encoding="ascii") as file:
            return file.read(TOKEN_BYTES_MAX).strip() or None


class Access:
    """Lets in root and the daemon's own user by socket, and whoever holds the token by TCP."""

    def __init__(self, token: TokenFile | None) -> None:
        self._token = token
        self._users = {0, os.geteuid()}

    def require(self, request: Request) -> None:
        """Raise `Refused` unless the caller may act on this node."""
        peer = request.scope.get("state", {}).get("peer")
        if peer is not None:
            if peer.uid not in self._users:
                raise Refused(
                    "forbidden",
                    f"user id {peer.uid} may not use this socket; be root or the agent's user",
                )
            return
        given = bearer_token(request).encode()
        expected = self._token.current() if self._token is not None else None
        # Compared even where there is none, so that time tells nothing about that either.
        same = hmac.compare_digest(given, (expected or "").encode())
        if expected is None or not same:
            raise Refused("unauthorized", "the token is not this node's (see api.token there)")


def own_token(state_dir: Path) -> TokenFile:
    """The token for TCP callers, made on first use: `api.token`, readable by the owner only."""
    path = state_dir / TOKEN_FILE
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32) + "\n")
    return TokenFile(path)


def came_by_network(request: Request) -> bool:
    """Whether the caller is another machine's (or acts as one), not a user of this one."""
    return request.scope.get("state", {}).get("peer") is None
