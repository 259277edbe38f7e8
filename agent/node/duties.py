"""The daemon's own periodic duties, by `schedule`, fed into one timer by its `idle_seconds`.

Durable actions have the engine (docs/decisions/0006); what is here may be forgotten at any
restart and is simply done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import schedule

from agent.node import log_events

TIDY_EVERY_H = 1
FALLBACK_PULL_EVERY_S = 60
POLL_AGAIN_EVERY_MIN = 10
_FALLBACK = "fallback"


class Duties:
    """Runs each duty when it is due; sleeps in between without waking."""

    def __init__(self, *, tidy: Callable[[], Awaitable[None]], log: Any) -> None:
        self._scheduler = schedule.Scheduler()
        self._due: list[Callable[[], Awaitable[None]]] = []
        self._changed = asyncio.Event()
        self._tidy = tidy
        self._log = log
        self._scheduler.every(TIDY_EVERY_H).hours.do(self._due.append, tidy)
        self._due.append(tidy)  # at once too: a daemon that is restarted often must tidy as well

    def tidy_now(self) -> None:
        """Once more, out of turn: the runner is there, without which nothing can be forgotten."""
        self.soon(self._tidy)

    def soon(self, work: Callable[[], Awaitable[None]]) -> None:
        """Once, out of turn."""
        self._due.append(work)
        self._changed.set()

    def every_night(self, at: str, work: Callable[[], None]) -> None:
        """Once a day at a local time, `HH:MM`."""

        async def do() -> None:
            work()

        self._scheduler.every().day.at(at).do(self._due.append, do)
        self._changed.set()

    def fall_back(self, pull: Callable[[], None], poll_again: Callable[[], None]) -> None:
        """While long polls are cut: pull every minute, and try a long poll now and then."""

        async def pull_now() -> None:
            pull()

        async def try_polling() -> None:
            self._scheduler.clear(_FALLBACK)
            poll_again()

        every = self._scheduler.every
        every(FALLBACK_PULL_EVERY_S).seconds.do(self._due.append, pull_now).tag(_FALLBACK)
        every(POLL_AGAIN_EVERY_MIN).minutes.do(self._due.append, try_polling).tag(_FALLBACK)
        self._changed.set()

    async def run(self) -> None:
        """For ever. A duty that fails is logged and has its next turn like the others."""
        while True:
            self._changed.clear()
            self._follow_the_clock()
            self._scheduler.run_pending()
            due, self._due[:] = list(self._due), []
            for duty in due:
                try:
                    await duty()
                except Exception as error:  # noqa: BLE001  (told, and tried again next time)
                    self._log.error(log_events.DUTY_FAILED, error=repr(error))
            await self._sleep()

    def _follow_the_clock(self) -> None:
        """`schedule` counts in local wall time: when that is set back, or summer time ends, all
        duties would wait so much longer. The next one is never further away than its period.
        """
        jobs = self._scheduler.jobs
        shortest = min(timedelta(**{str(job.unit): job.interval}) for job in jobs)
        too_far = timedelta(seconds=self._scheduler.idle_seconds or 0.0) - shortest
        if too_far > timedelta(0):
            for job in jobs:
                job.next_run = job.next_run - too_far if job.next_run else None

    async def _sleep(self) -> None:
        idle_s = self._scheduler.idle_seconds
        try:
            async with asyncio.timeout(None if idle_s is None else max(0.0, idle_s)):
                await self._changed.wait()
        except TimeoutError:
            return
