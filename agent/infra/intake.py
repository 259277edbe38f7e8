"""Bodies that are coming in: how many bytes of them are held at once, and where they are decoded.

A full body takes up to a second to decode: on the loop, one caller would make all others wait.
Large ones are decoded by a thread, one at a time, which yields every few milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from agent.domain.errors import Refused

T = TypeVar("T")

DECODED_ON_LOOP_BYTES_MAX = 64 * 1024  # three milliseconds at most
HELD_BYTES_MAX = 256 * 1024 * 1024  # sixty-four of the largest


class Held:
    """What one request has sent so far."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.bytes = 0

    def add(self, count: int) -> None:
        """More has come. Raises `Refused` (busy) when all together are too much."""
        self.bytes += count
        self._intake.held_bytes += count
        if self._intake.held_bytes > HELD_BYTES_MAX:
            raise Refused("busy", "too much is being sent at once; try again shortly")


class Intake:
    """One per application."""

    def __init__(self) -> None:
        self.held_bytes = 0
        self._decoding = asyncio.Lock()

    @contextmanager
    def holding(self) -> Iterator[Held]:
        """The account of one body, from its first byte until it is decoded."""
        held = Held(self)
        try:
            yield held
        finally:
            self.held_bytes -= held.bytes

    async def decode(self, body: bytes, decode: Callable[[bytes], T]) -> T:
        """Where it holds nobody up. Raises what the function raises."""
        if len(body) <= DECODED_ON_LOOP_BYTES_MAX:
            return decode(body)
        async with self._decoding:
            return await asyncio.to_thread(decode, body)
