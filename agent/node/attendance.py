"""While the runner is connected: read a changed catalogue, and see a misplaced runner off.

Misplaced is a runner of ours that serves another scripts directory than we were told: it was
started before the settings changed. What runs there is adopted, stopped and settled as always, but
nothing starts; when nothing runs any more it is asked to leave, and the next one is started right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from agent.node import log_events
from agent.node.engine import Engine
from agent.node.ports import Hello, Runner, RunnerAway, RunnerRefused
from agent.node.store.damage import StoreUnavailable

MISPLACED_LOOK_S = 0.5  # only while a misplaced runner is there
STORE_AGAIN_S = 5.0


class Attendance:
    """Attends to one runner at a time; `scripts_dir` is what our own must serve, if it is ours."""

    def __init__(
        self,
        *,
        runner: Runner,
        engine: Engine,
        log: Any,
        scripts_dir: str | None,
        read_kinds: Callable[[], Awaitable[bool]],
        note_problem: Callable[[str], None],
    ) -> None:
        self._runner = runner
        self._engine = engine
        self._log = log
        self._scripts_dir = scripts_dir
        self._read_kinds = read_kinds
        self._note_problem = note_problem
        self._news = asyncio.Event()
        self._kinds_stale = False

    def kinds_changed(self) -> None:
        """The scripts directory changed."""
        self._kinds_stale = True
        self._news.set()

    def wake(self) -> None:
        """Something else happened: look again."""
        self._news.set()

    def misplaced(self, hello: Hello) -> str | None:
        """Why nothing may start on this runner; None if it serves our scripts."""
        if self._scripts_dir in (None, hello.scripts_dir) or not hello.scripts_dir:
            return None
        return (
            f"the runner with pid {hello.pid} serves {hello.scripts_dir}, not {self._scripts_dir};"
            " nothing starts until it has left, which it is asked to when nothing runs any more"
        )

    async def until_lost(self, hello: Hello, lost: asyncio.Event) -> None:
        """Attend until the connection is lost; `wake` must be called then."""
        problem = self.misplaced(hello)
        if problem is not None:
            self._note_problem(problem)
        while not lost.is_set():
            self._news.clear()
            if problem is not None and not self._engine.running:
                with suppress(RunnerAway, RunnerRefused):
                    await self._runner.leave()
            if self._kinds_stale:
                await self._read_again()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if problem is None else MISPLACED_LOOK_S):
                    await self._news.wait()

    async def _read_again(self) -> None:
        self._kinds_stale = False
        try:
            await self._read_kinds()
        except StoreUnavailable as error:
            self._log.warning(log_events.STORE_FAILED, error=str(error))
            asyncio.get_running_loop().call_later(STORE_AGAIN_S, self.kinds_changed)
        except (RunnerAway, RunnerRefused):
            return  # it goes away; whoever is there next is asked for all of its kinds
