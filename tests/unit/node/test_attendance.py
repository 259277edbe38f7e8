"""While a runner is there: changed kinds are read, a misplaced one is seen off, alarms are loud."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agent.node.attendance import Attendance
from agent.node.ports import Hello, RunKey, RunnerAway
from agent.node.runner_client import SocketRunner
from agent.node.runner_process import nothing_to_ensure
from agent.node.store.damage import StoreUnavailable
from tests.fakes.runners import Listener

pytestmark = pytest.mark.timeout(30)
HERE = Hello(version="1", pid=7, max_row=0, scripts_dir="/right")
THERE = Hello(version="1", pid=7, max_row=0, scripts_dir="/wrong")


class Around:
    """What attendance works with, and what it did."""

    def __init__(self, scripts_dir: str | None = "/right") -> None:
        self.reads = 0
        self.left = 0
        self.problems: list[str] = []
        self.failures: list[Exception] = []
        self.running: dict[int, Any] = {}
        self.lost = asyncio.Event()
        self.attendance = Attendance(
            runner=self, engine=SimpleNamespace(running=self.running),  # type: ignore[arg-type]
            log=SimpleNamespace(warning=lambda *_, **__: None), scripts_dir=scripts_dir,
            read_kinds=self.read, note_problem=self.problems.append,
        )  # fmt: skip

    async def read(self) -> bool:
        self.reads += 1
        if self.failures:
            raise self.failures.pop()
        return True

    async def leave(self) -> bool:
        self.left += 1
        self.lose()
        return True

    def lose(self) -> None:
        self.lost.set()
        self.attendance.wake()


def test_kinds_are_read_when_they_changed_and_only_then() -> None:
    async def play() -> None:
        around = Around()
        task = asyncio.ensure_future(around.attendance.until_lost(HERE, around.lost))
        await asyncio.sleep(0)
        assert around.reads == 0
        around.attendance.kinds_changed()
        around.attendance.kinds_changed()
        for _ in range(5):
            await asyncio.sleep(0)
        assert around.reads == 1
        around.lose()
        await task

    asyncio.run(play())


@pytest.mark.parametrize("failure", [RunnerAway("gone"), StoreUnavailable("full")])
def test_a_failed_reading_ends_nothing(failure: Exception) -> None:
    async def play() -> None:
        around = Around()
        around.failures.append(failure)
        around.attendance.kinds_changed()
        task = asyncio.ensure_future(around.attendance.until_lost(HERE, around.lost))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        around.lose()
        await task

    asyncio.run(play())


def test_a_misplaced_runner_is_asked_to_leave_when_nothing_runs() -> None:
    async def play() -> None:
        around = Around()
        around.running[1] = "something"
        task = asyncio.ensure_future(around.attendance.until_lost(THERE, around.lost))
        await asyncio.sleep(0.01)
        assert around.left == 0
        assert "serves /wrong, not /right" in around.problems[0]
        around.running.clear()
        around.attendance.wake()
        await task
        assert around.left == 1

    asyncio.run(play())


@pytest.mark.parametrize(("expected", "hello"), [(None, THERE), ("/right", HERE)])
def test_other_runners_are_no_business_of_ours(expected: str | None, hello: Hello) -> None:
    async def play() -> None:
        assert Around(expected).attendance.misplaced(hello) is None
        old = Hello(version="0", pid=1, max_row=0)
        assert Around("/right").attendance.misplaced(old) is None, "it does not say"

    asyncio.run(play())


def test_notices_reach_the_listener(tmp_path: Any) -> None:
    async def play() -> None:
        listener = Listener()
        client = SocketRunner(tmp_path / "none", nothing_to_ensure)
        client._listener = listener
        for notice in (
            {"event": "kinds"},
            {"event": "survivors", "row": 3, "start_no": 1, "id": "a3", "count": 2},
            {"event": "survivors", "row": None, "start_no": None, "id": None, "count": 1},
            {"event": "of a later version", "row": 1},
        ):
            client._take(notice)
        assert listener.kinds == 1
        assert listener.survivors == [(RunKey(3, 1, "a3"), 2), (None, 1)]

    asyncio.run(play())
