"""Events written straight into a store, and a receiver of webhooks that does as it is told."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.events.receiver import Outcome
from agent.core.occasion import Occasion
from agent.core.store.port import Store
from agent.core.wakeups import EVENTS, Wakeups

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
YES = Outcome(200, None)
NO = Outcome(500, "answered 500")
GONE = Outcome(410, "answered 410")


def occasion(at: datetime = AT) -> Occasion:
    return Occasion(at, secrets.randbits)


async def note(
    store: Store,
    wakeups: Wakeups,
    *kinds: str,
    node: str = "n1",
    action: str | None = None,
    at: datetime = AT,
) -> None:
    """Write events of these types, and wake who waits for events."""

    def work(connection: Connection) -> None:
        for kind in kinds:
            journal.append(connection, occasion(at), node, kind, action, {"body": kind})

    await store.write(work)
    wakeups.notify([EVENTS])


class ToldReceiver:
    """Answers with the outcomes it was given, in order, then with yes; remembers what came."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.got: list[tuple[Mapping[str, str], dict[str, Any]]] = []
        self.hold: asyncio.Event | None = None

    @property
    def types(self) -> list[str]:
        return [message["type"] for _, message in self.got]

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        self.got.append((headers, msgspec.json.decode(body)))
        if self.hold is not None:
            await self.hold.wait()
        return self.outcomes.pop(0) if self.outcomes else YES

    async def close(self) -> None:
        """Nothing is open."""


async def until(true: Any, seconds: float = 5.0) -> None:
    """Wait for a condition that other tasks bring about."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  (what is waited for does not know of being waited for)
            await asyncio.sleep(0.005)
