"""One client's byte stream: lines in, lines out, both bounded. What lines mean is not known here.

A client that does not read is not read from; one that lets notices pile up is cut off. Neither
ever makes the loop wait.
"""

from __future__ import annotations

import json
from typing import Any

from agent.runner.limits import (
    LINE_BYTES_MAX,
    REQUESTS_PER_TURN,
    SEND_BUFFER_HARD_BYTES,
    SEND_BUFFER_SOFT_BYTES,
)
from agent.runner.loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from agent.runner.loop import Loop

_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode_line(message: dict[str, Any]) -> bytes:
    """A frame. Lone surrogates, which UTF-8 cannot say, become `?`."""
    return _encode_json(message).encode("utf-8", "replace") + b"\n"


class Connection:
    """A connected client."""

    def __init__(
        self,
        loop: Loop,
        peer: socket.socket,
        on_line: Callable[[Connection, bytes], None],
        on_closed: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._peer = peer
        self._on_line = on_line
        self._on_closed = on_closed
        self._received = bytearray()
        self._sending = bytearray()
        self._events = READ
        self._is_cork = False
        self.is_open = True
        self.generation: int | None = None  # since its hello
        self._fd = peer.fileno()
        peer.setblocking(False)
        loop.watch(self._fd, self._ready)

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message and send what can be sent now."""
        if not self.is_open:
            return
        self._sending += encode_line(message)
        if len(self._sending) > SEND_BUFFER_HARD_BYTES:
            self.close()
        elif not self._is_cork:
            self._flush()

    def end(self, message: dict[str, Any]) -> None:
        """Send a last message as far as the kernel takes it, then close: nobody is waited for."""
        self._is_cork = False
        self.send(message)
        self.close()

    def close(self) -> None:
        """Drop the client and everything unsent."""
        if not self.is_open:
            return
        self.is_open = False
        self._loop.forget(self._fd)
        self._peer.close()
        self._on_closed(self)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self.is_open and events & ~WRITE:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._peer.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._received += data
        self._process()

    def _process(self) -> None:
        """Hand over whole lines, but not more than a turn's worth, nor to one who does not read."""
        self._is_cork = True
        done = 0
        start = 0
        while self.is_open and self._may_go_on(done):
            end = self._received.find(b"\n", start)
            if end < 0:
                break
            line = bytes(self._received[start:end])
            start = end + 1
            done += 1
            self._on_line(self, line)
        del self._received[:start]
        self._is_cork = False
        self._flush()
        if self.is_open:
            self._check_rest()

    def _may_go_on(self, done: int) -> bool:
        return done < REQUESTS_PER_TURN and len(self._sending) <= SEND_BUFFER_SOFT_BYTES

    def _check_rest(self) -> None:
        if self._received.find(b"\n") >= 0:
            if len(self._sending) <= SEND_BUFFER_SOFT_BYTES:
                self._loop.call_soon(self._resume)
        elif len(self._received) > LINE_BYTES_MAX:
            message = f"a line exceeds {LINE_BYTES_MAX} bytes; the connection is closed"
            self.end({"n": None, "ok": False, "error": "too_large", "message": message})
            return
        self._wait_for_events()

    def _resume(self) -> None:
        if self.is_open:
            self._process()

    def _flush(self) -> None:
        if not self.is_open:
            return
        if self._sending:
            try:
                sent = self._peer.send(self._sending)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            was_full = len(self._sending) > SEND_BUFFER_SOFT_BYTES
            del self._sending[:sent]
            if was_full and len(self._sending) <= SEND_BUFFER_SOFT_BYTES:
                self._loop.call_soon(self._resume)
        self._wait_for_events()

    def _wait_for_events(self) -> None:
        """Read unless it must catch up first; write while something is unsent."""
        is_behind = len(self._sending) > SEND_BUFFER_SOFT_BYTES
        is_behind = is_behind or len(self._received) > 2 * LINE_BYTES_MAX
        events = 0 if is_behind else READ
        if self._sending:
            events |= WRITE
        if events != self._events:
            self._events = events
            self._loop.change(self._fd, events)
