"""The cores of a campaign, how they are asked, and everything that was surprising about it.

A core is killed now and then; what is answered 503, or not at all, while one is away is no
surprise, everything else of that sort is.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from agent.wire import strict_json
from tests.fakes.core_process import CoreProcess

RECOVERS_S = 3.0  # after a start: connections of PostgreSQL that died with the core are let go
FINDINGS_MAX = 30  # more of them tell nothing new
ASKED_S_MAX = 40.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a core said; code 0 where nobody can know what became of it."""

    code: int
    body: Any

    @property
    def is_good(self) -> bool:
        return 200 <= self.code < 300


@dataclass(slots=True)
class Seat:
    """One `cored`, and when it was away."""

    core: CoreProcess
    is_up: bool = True
    away_until: float = 0.0


@dataclass(slots=True)
class World:
    """What all tasks share."""

    seats: list[Seat]
    random: Random
    client: httpx.AsyncClient
    token: str
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    is_over: bool = False

    def find(self, what: str) -> None:
        """Something that must not be."""
        self.counts["findings"] += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(what)

    def any_seat(self) -> Seat:
        """One that is up, if one is."""
        up = [seat for seat in self.seats if seat.is_up]
        return self.random.choice(up or self.seats)

    @property
    def is_disturbed(self) -> bool:
        """Whether somebody was killed just now."""
        return any(time.monotonic() < seat.away_until or not seat.is_up for seat in self.seats)

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **more: Any
    ) -> Answer:
        """Ask any core."""
        seat, headers = self.any_seat(), more.pop("headers", {})
        content = None if body is None else strict_json.encode(body)
        headers = {"authorization": f"Bearer {token or self.token}", **headers}
        was_disturbed = self.is_disturbed
        try:
            found = await self.client.request(
                method, seat.core.url + path, content=content, headers=headers, **more
            )
        except httpx.HTTPError as error:
            if not (was_disturbed or self.is_disturbed):
                self.find(f"{method} {path}: {error!r} while every core was up")
            await asyncio.sleep(0.1)
            return Answer(0, None)
        self.counts[f"answer {found.status_code}"] += 1
        told: Any = found.json() if found.content else None
        may_be = found.status_code == 503 and (was_disturbed or self.is_disturbed)
        if found.status_code >= 500 and not may_be:
            self.find(f"{method} {path} {str(body)[:200]}: {found.status_code} {told}")
        return Answer(found.status_code, told)


async def kill_and_restart(world: World, every_s: float) -> None:
    """kill -9 of one core after the other, and its start again a moment later."""
    while not world.is_over:
        await asyncio.sleep(world.random.uniform(every_s / 2, every_s * 1.5))
        if world.is_over:
            return
        seat = world.random.choice(world.seats)
        seat.is_up, seat.away_until = False, float("inf")
        await asyncio.to_thread(seat.core.kill)
        world.counts["kills"] += 1
        await asyncio.sleep(world.random.uniform(0.0, 2.0))
        await asyncio.to_thread(seat.core.start)
        seat.is_up, seat.away_until = True, time.monotonic() + RECOVERS_S


def start_cores(base: Path, count: int, **settings: object) -> list[Seat]:
    """Each with a state directory of its own, all with the same settings."""
    return [
        Seat(CoreProcess(base / f"core-{number}", **settings).start()) for number in range(count)
    ]
