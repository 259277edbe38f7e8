"""A local API that says what a test tells it to, on a real Unix socket in a thread.

For what `agentctl` makes of an answer, and which request it sends; the real answers are tested
against a real agentd.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

Answer = tuple[int, Any] | Callable[["Asked"], tuple[int, Any]]


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    body: Any


@dataclass
class ScriptedApi:
    """`answers` by `METHOD /path`; what is not there is 404. `asked` is all that was asked."""

    state_dir: Path
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state_dir.mkdir(exist_ok=True)
        self._server: HTTPServer | None = None

    def start(self) -> ScriptedApi:
        path = self.state_dir / "agent.sock"
        path.unlink(missing_ok=True)
        server = _UnixServer(cast("Any", str(path)), _handler(self), bind_and_activate=False)
        server.server_bind()
        server.server_activate()
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self._server = server
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def requests(self, method: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == method]


class _UnixServer(HTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was ended in the middle of its question is no error of ours."""


def _handler(api: ScriptedApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            return

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            asked = Asked(self.command, unquote(parts.path), dict(parse_qsl(parts.query)), body)
            api.asked.append(asked)
            answer = api.answers.get(f"{asked.method} {asked.path}")
            if answer is None:
                answer = 404, {"error": "not_found", "message": f"nothing at {asked.path}"}
            status, document = answer(asked) if callable(answer) else answer
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815  (the library's names)

    return Handler
