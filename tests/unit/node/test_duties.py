"""The daemon's periodic duties, with time standing still until a test lets it pass.

freezegun freezes what `schedule` reads; asyncio keeps its own clock (`real_asyncio`), or its
sleeps would never end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from freezegun import freeze_time

from agent.node.duties import FALLBACK_PULL_EVERY_S, POLL_AGAIN_EVERY_MIN, TIDY_EVERY_H, Duties

START = datetime(2026, 1, 15, 12, tzinfo=UTC)
SOON_S = 5.0


class Log:
    """Remembers what was logged."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def error(self, event: str, **members: Any) -> None:
        self.errors.append(f"{event} {members}")


class Box:
    """Duties that run in a frozen world; `pass_time` is how it turns."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.done: list[str] = []
        self.log = Log()
        self.fails = False
        self.duties = Duties(tidy=self._tidy, log=self.log)
        self._task = asyncio.ensure_future(self.duties.run())

    async def _tidy(self) -> None:
        self.done.append("tidy")
        if self.fails:
            raise RuntimeError("the disk is full")

    async def pass_time(self, span: timedelta) -> None:
        self._clock.tick(span)
        self.duties._changed.set()  # the real loop's timer would have rung
        for _ in range(10):
            await asyncio.sleep(0)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def in_a_frozen_world(scenario: Callable[[Box], Awaitable[None]]) -> None:
    async def play(clock: Any) -> None:
        box = Box(clock)
        try:
            async with asyncio.timeout(SOON_S):
                await box.pass_time(timedelta(0))
                assert box.done == ["tidy"], "once at the start, however often that is"
                box.done.clear()
                await scenario(box)
        finally:
            await box.close()

    with freeze_time(START, real_asyncio=True) as clock:
        asyncio.run(play(clock))


def test_tidying_has_its_hours() -> None:
    async def scenario(box: Box) -> None:
        await box.pass_time(timedelta(hours=TIDY_EVERY_H, minutes=-1))
        assert box.done == []
        await box.pass_time(timedelta(minutes=1))
        assert box.done == ["tidy"]
        await box.pass_time(timedelta(hours=TIDY_EVERY_H))
        assert box.done == ["tidy", "tidy"]

    in_a_frozen_world(scenario)


def test_it_may_be_asked_to_tidy_out_of_turn() -> None:
    """At the start the runner is not there yet, and nothing is forgotten without it."""

    async def scenario(box: Box) -> None:
        box.duties.tidy_now()
        await box.pass_time(timedelta(0))
        assert box.done == ["tidy"]

    in_a_frozen_world(scenario)


def test_what_was_missed_in_a_long_sleep_is_done_once() -> None:
    async def scenario(box: Box) -> None:
        await box.pass_time(timedelta(days=10))
        assert box.done == ["tidy"]

    in_a_frozen_world(scenario)


def test_a_duty_that_fails_is_logged_and_has_its_next_turn() -> None:
    async def scenario(box: Box) -> None:
        box.fails = True
        await box.pass_time(timedelta(hours=TIDY_EVERY_H))
        assert "the disk is full" in box.log.errors[0]
        box.fails = False
        await box.pass_time(timedelta(hours=TIDY_EVERY_H))
        assert box.done == ["tidy", "tidy"]
        assert len(box.log.errors) == 1

    in_a_frozen_world(scenario)


def test_cut_long_polls_fall_back_to_pulling_every_minute_until_polling_is_tried_again() -> None:
    async def scenario(box: Box) -> None:
        pulls: list[int] = []
        polls: list[int] = []
        box.duties.fall_back(lambda: pulls.append(1), lambda: polls.append(1))
        for _ in range(POLL_AGAIN_EVERY_MIN - 1):
            await box.pass_time(timedelta(seconds=FALLBACK_PULL_EVERY_S))
        assert (len(pulls), len(polls)) == (POLL_AGAIN_EVERY_MIN - 1, 0)
        await box.pass_time(timedelta(seconds=FALLBACK_PULL_EVERY_S))
        assert len(polls) == 1
        seen = len(pulls)
        await box.pass_time(timedelta(hours=1))
        assert len(pulls) == seen

    in_a_frozen_world(scenario)


@pytest.mark.parametrize("minutes", [1, 30, 59])
def test_it_sleeps_until_the_next_duty_and_no_longer(minutes: int) -> None:
    async def scenario(box: Box) -> None:
        await box.pass_time(timedelta(minutes=minutes))
        idle_s = box.duties._scheduler.idle_seconds
        assert idle_s == pytest.approx(TIDY_EVERY_H * 3600 - minutes * 60)

    in_a_frozen_world(scenario)


def test_a_clock_that_is_set_back_stops_no_duty() -> None:
    """`schedule` counts in local time, so the end of summer time is such a day, too."""

    async def scenario(box: Box) -> None:
        pulls: list[int] = []
        box.duties.fall_back(lambda: pulls.append(1), lambda: None)
        await box.pass_time(timedelta(hours=-1))
        await box.pass_time(timedelta(seconds=FALLBACK_PULL_EVERY_S))
        assert pulls == [1]
        await box.pass_time(timedelta(days=-365))
        await box.pass_time(timedelta(hours=TIDY_EVERY_H))
        assert box.done == ["tidy"]

    in_a_frozen_world(scenario)
