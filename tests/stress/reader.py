"""Somebody who follows the global stream of events at one core, through all of its deaths."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from tests.stress.world import Seat, World

QUIET_S_MAX = 45.0  # a stream gives a sign of life more often than that


@dataclass(slots=True)
class Reader:
    """The numbers of all events that it saw, in the order in which it saw them."""

    world: World
    seat: Seat
    seen: list[int] = field(default_factory=list)

    async def follow(self) -> None:
        """Until cancelled; resumes where it was."""
        while True:
            with suppress(httpx.HTTPError):
                await self._connection()
            self.world.counts["streams begun"] += 1
            await asyncio.sleep(0.05)

    async def _connection(self) -> None:
        headers = {
            "authorization": f"Bearer {self.world.token}", "accept": "text/event-stream",
            "last-event-id": str(self.seen[-1] if self.seen else 0),
        }  # fmt: skip
        timeout = httpx.Timeout(10.0, read=QUIET_S_MAX)
        async with self.world.client.stream(
            "GET", f"{self.seat.core.url}/v1/events", headers=headers, timeout=timeout
        ) as answer:
            if answer.status_code != 200:
                if not self.world.is_disturbed:
                    self.world.find(f"the stream answered {answer.status_code}")
                return
            number: int | None = None
            has_data = False
            async for line in answer.aiter_lines():
                if line.startswith("id:"):
                    number = int(line[3:])
                elif line.startswith("data:"):
                    has_data = True
                elif not line and has_data and number is not None:
                    self.seen.append(number)
                    has_data = False
