"""A backend that is not ours, on a real socket: answers as a test tells it, and notes every call.

It speaks the node protocol from docs/protocol.md just far enough, and can answer with raw bytes,
so that a node can be shown everything that a network may bring.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Respond = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    """Answers each call in a thread; its port can be taken again at once."""

    daemon_threads = True
    allow_reuse_address = True


@dataclass
class Call:
    """One request as it came in."""

    method: str
    path: str
    body: Any
    headers: dict[str, str]


@dataclass
class ScriptedCore:
    """Pulls get the next of `pulls` (a document, or a function that writes anything), then wait."""

    pulls: list[Any] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False
    refuse_events: tuple[int, Any] | None = None
    cursor: int = 0
    port: int = 0
    more: threading.Event = field(default_factory=threading.Event)
    seen: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> Self:
        handler = type("Bound", (Handler,), {"core": self})
        self._server = Server(("127.0.0.1", self.port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True
        self.more.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def offer(self, *answers: Any) -> None:
        """Queue answers to pulls and end the poll that waits."""
        self.pulls.extend(answers)
        self.more.set()

    def offer_actions(self, *documents: Any) -> None:
        """Queue one proper answer with these definitions."""
        self.cursor += 1
        answer = {"cursor": f"e.{self.cursor}.m", "full": False, "actions": list(documents),
                  "requests": []}  # fmt: skip
        self.offer(answer)

    def wait_for(self, true: Callable[[], bool], seconds: float = 15.0) -> None:
        """Until a call made `true` true."""
        with self.seen:
            assert self.seen.wait_for(true, seconds), f"not seen; events: {self.events[-5:]}"

    def wait_for_status(self, action_id: str, status: str) -> dict[str, Any]:
        """The transition event that told this status."""

        def found() -> list[dict[str, Any]]:
            return [
                event
                for event in self.events
                if event.get("action_id") == action_id and event.get("to") == status
            ]

        self.wait_for(lambda: bool(found()))
        return found()[-1]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    core: ScriptedCore

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def parse_request(self) -> bool:
        """A core that has gone away answers no kept connection either."""
        if self.core.closed:
            self.close_connection = True
            return False
        return super().parse_request()

    def do_GET(self) -> None:
        self._note(None)
        if "/actions" not in self.path:
            self.reply({"error": "not_found", "message": self.path}, 404)
            return
        wait_s = float(self.path.partition("wait=")[2].partition("&")[0] or 0)
        if not self.core.pulls:
            self.core.more.clear()
            self.core.more.wait(min(wait_s, 20))
        if not self.core.pulls:
            cursor = f"e.{self.core.cursor}.m"
            self.reply({"cursor": cursor, "full": False, "actions": [], "requests": []})
            return
        answer = self.core.pulls.pop(0)
        if callable(answer):
            answer(self)
        else:
            self.reply(answer)

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith("/enroll"):
            self._note(body)
            self.reply({"agent_id": body.get("agent_id") or "n", "credential": "secret-of-node"})
        elif self.path.endswith("/events"):
            self._take_events(body)
        else:
            self._note(body)
            self.reply({"error": "not_found", "message": self.path}, 404)

    def do_PUT(self) -> None:
        self._note(self._body())
        self.reply({})

    def _take_events(self, body: Any) -> None:
        if self.core.refuse_events is not None:
            status, answer = self.core.refuse_events
            self._note(body)
            self.reply(answer, status)
            return
        known = {event["mark"] for event in self.core.events}
        self.core.events += [event for event in body["events"] if event["mark"] not in known]
        self._note(body)
        told = body["events"] or self.core.events  # an empty push asks what is durable here
        self.reply({"acked": told[-1]["seq"] if told else 0})

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"null")

    def _note(self, body: Any) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        with self.core.seen:
            self.core.calls.append(Call(self.command, self.path, body, headers))
            self.core.seen.notify_all()

    def reply(self, document: Any, status: int = 200, **headers: str) -> None:
        """A JSON answer."""
        self.raw(json.dumps(document).encode(), status, **headers)

    def raw(self, data: bytes, status: int = 200, **headers: str) -> None:
        """Any bytes, with a true length unless told otherwise."""
        self.send_response(status)
        given = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        for name, value in (given | {k.replace("_", "-"): v for k, v in headers.items()}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
