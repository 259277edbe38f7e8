"""Nodes that are only their side of the protocol: thousands on one event loop, bytes in, bytes out.

They must cost little beside the core that is measured: requests are made beforehand, and of an
answer only what is needed is looked at.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

AT = "2026-03-01T12:00:00Z"
LABELS = {"fleet": "bench"}
CONNECTING_AT_ONCE = 100
POLL_S = 60
_EXECUTION = (
    '{"execution_status":"%s","reason":null,"attempt":%d,"started_at":null,"ended_at":null,'
    '"exit_code":null,"signal":null,"error":null,"verdict":null,"output":null}'
)


class Wire(asyncio.Protocol):
    """One kept connection; one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answered: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Part of an answer."""
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lowered = head.lower()
        at = lowered.index(b"content-length:") + 15
        length = int(lowered[at : at + 12].split(b"\r", 1)[0])
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        answered, self._answered = self._answered, None
        if answered is not None and not answered.done():
            answered.set_result((int(head[9:12]), rest[:length]))

    def connection_lost(self, _error: Exception | None) -> None:
        """Whoever waits for an answer gets none."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionError("the core hung up"))

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send it; what it is answered."""
        assert self._transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answered

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


class Node:
    """One simulated node."""

    def __init__(self, name: str, credential: str) -> None:
        self.name = name
        self.epoch = secrets.token_hex(8)
        self.cursor = ""
        self.seq = 0
        self.wire = Wire()
        self._head = (
            f"Host: core\r\nAuthorization: Bearer {credential}\r\n"
            f"Agent-Instance: {secrets.token_hex(8)}\r\n"
        )

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The bytes of one."""
        line = f"{method} /v1/agents/{self.name}{path} HTTP/1.1\r\n"
        return f"{line}{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def call(self, method: str, path: str, body: Any = None) -> bytes:
        """Send it and be answered well."""
        data = b"" if body is None else json.dumps(body).encode()
        status, answer = await self.wire.ask(self.request(method, path, data))
        if status != 200:
            raise ConnectionError(f"{method} {path}: {status} {answer[:300]!r}")
        return answer

    async def join(self, port: int, kinds: Sequence[str]) -> None:
        """Connect and tell what it is and has."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self.wire, "127.0.0.1", port)
        await self.pull(0)
        catalogue = [{"kind": kind, "parallel": True, "risk_level": "safe"} for kind in kinds]
        report = {"version": "0.1.0", "catalogue": catalogue, "labels": LABELS, "host": self.name}
        await self.call("PUT", "/node", report)
        state = {
            "agent_epoch": self.epoch, "as_of_seq": 0, "first_seq": 1, "cursor": self.cursor,
            "snapshot": "s", "part": 0, "last": True, "actions": [],
        }  # fmt: skip
        await self.call("PUT", "/state", state)

    async def pull(self, wait_s: int) -> int:
        """How many definitions there were."""
        answer = json.loads(await self.call("GET", f"/actions?cursor={self.cursor}&wait={wait_s}"))
        self.cursor = answer["cursor"]
        return len(answer["actions"])

    async def hold(self, on_actions: Callable[[int, float], None]) -> None:
        """Poll until cancelled."""
        while True:
            count = await self.pull(POLL_S)
            if count:
                on_actions(count, time.monotonic())

    def pushes(self, size: int, count: int) -> list[bytes]:
        """So many requests of `size` events each: actions of its own that come, start and end."""
        made = []
        for _ in range(count):
            events = ",".join(self._event() for _ in range(size))
            body = f'{{"agent_epoch":"{self.epoch}","events":[{events}]}}'.encode()
            made.append(self.request("POST", "/events", body))
        return made

    def _event(self) -> str:
        self.seq += 1
        number, step = divmod(self.seq - 1, 3)
        action = f"{self.name}-{number}"
        frame = (
            f'"seq":{self.seq},"mark":"{secrets.token_hex(8)}","at":"{AT}","action_id":"{action}"'
        )
        if step == 0:
            definition = f'{{"id":"{action}","kind":"local","owner":"node","revision":1}}'
            return (
                f'{{{frame},"type":"local_definition","definition":{definition},'
                f'"execution":{_EXECUTION % ("NULL", 0)}}}'
            )
        was, to, why = [("NULL", "STARTED", "due"), ("STARTED", "FINISHED", "exit_zero")][step - 1]
        return (
            f'{{{frame},"type":"transition","from":"{was}","to":"{to}","reason":"{why}",'
            f'"attempt":1,"revision":1,"evidence":{{}},"execution":{_EXECUTION % (to, 1)}}}'
        )


async def join_all(nodes: Iterable[Node], port: int, kinds: Sequence[str]) -> None:
    """All of them, some at a time."""
    doors = asyncio.Semaphore(CONNECTING_AT_ONCE)

    async def one(node: Node) -> None:
        async with doors:
            await node.join(port, kinds)

    await asyncio.gather(*(one(node) for node in nodes))


async def push_all(node: Node, requests: Sequence[bytes]) -> None:
    """One after the other, each when the one before is durable."""
    for request in requests:
        status, answer = await node.wire.ask(request)
        if status != 200:
            raise ConnectionError(f"{node.name}: {status} {answer[:300]!r}")
