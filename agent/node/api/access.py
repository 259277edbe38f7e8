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


class Access:
    """Lets in root and the daemon's own user by socket, and whoever holds the token by TCP."""

    def __init__(self, token: str | None) -> None:
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
        if self._token is None or not hmac.compare_digest(
            bearer_token(request).encode(), self._token.encode()
        ):
            raise Refused("unauthorized", "the token is not this node's (see api.token there)")


def own_token(state_dir: Path) -> str:
    """The token for TCP callers, made on first use: `api.token`, readable by the owner only."""
    path = state_dir / TOKEN_FILE
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text().strip()
