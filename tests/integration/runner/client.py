"""A small synchronous client of the runner's protocol, for tests and benchmarks. It checks what
every answer must have, and keeps notices that come in between.
"""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from typing import Any


class Refused(Exception):
    """An answer with ok = false."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(f"{answer['error']}: {answer['message']}")
        self.error: str = answer["error"]
        self.message: str = answer["message"]
        self.n: int | None = answer["n"]


class Client:
    """One connection."""

    def __init__(self, path: str, timeout_s: float = 10.0) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout_s)
        self.sock.connect(path)
        self.buffer = b""
        self.number = 0
        self.notices: deque[dict[str, Any]] = deque()

    def close(self) -> None:
        self.sock.close()

    def post(self, op: str, **members: Any) -> int:
        self.number += 1
        message = {"n": self.number, "op": op, **members}
        self.sock.sendall(json.dumps(message).encode() + b"\n")
        return self.number

    def read(self) -> dict[str, Any]:
        while b"\n" not in self.buffer:
            data = self.sock.recv(262_144)
            if not data:
                raise ConnectionError("the runner closed the connection")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        value: dict[str, Any] = json.loads(line)
        return value

    def ask(self, op: str, **members: Any) -> dict[str, Any]:
        number = self.post(op, **members)
        while True:
            answer = self.read()
            if "event" in answer:
                self.notices.append(answer)
                continue
            assert answer.pop("n") == number
            if not answer.pop("ok"):
                raise Refused({"n": number, **answer})
            return answer

    def hello(self, generation: int = 1) -> dict[str, Any]:
        return self.ask("hello", protocols=[1], generation=generation)

    def start(self, row: int, kind: str, start_no: int = 1, **members: Any) -> dict[str, Any]:
        request = {"id": f"a{row}", "attempt": 1, "payload": {}, **members}
        return self.ask("start", row=row, start_no=start_no, kind=kind, **request)

    def notice(self, row: int | None = None, timeout_s: float = 10.0) -> dict[str, Any]:
        """The next notice of an end (of this row)."""
        until = time.monotonic() + timeout_s
        while True:
            for notice in list(self.notices):
                if notice["event"] == "exited" and row in (None, notice["row"]):
                    self.notices.remove(notice)
                    return notice
            self.sock.settimeout(max(0.01, until - time.monotonic()))
            try:
                answer = self.read()
            finally:
                self.sock.settimeout(timeout_s)
            assert "event" in answer, answer
            self.notices.append(answer)
