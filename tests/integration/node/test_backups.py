"""The loop that makes backups: when, what it notes, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent.node import backups as backups_module
from agent.node.backups import Backups, night_minute
from agent.node.store import backup
from agent.node.store.backup import list_backups, make_backup
from agent.node.store.meta import read_meta, write_meta
from agent.node.store.threaded import ThreadedStore
from tests.unit.domain.builders import NOW

pytestmark = pytest.mark.timeout(30)


class StillClock:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


Play = Callable[[ThreadedStore, Backups, StillClock], Awaitable[None]]


def play(tmp_path: Path, scenario: Play, *, kept: int = 3, check_first: bool = False) -> None:
    async def run() -> None:
        store, clock = ThreadedStore(tmp_path / "agent.db"), StillClock()
        loop = Backups(
            store=store, state_dir=tmp_path, kept=kept, clock=clock, check_first=check_first,
            log=structlog.get_logger(),
        )  # fmt: skip
        task = asyncio.ensure_future(loop.run())
        try:
            await scenario(store, loop, clock)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await store.close()

    asyncio.run(run())


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  (what is waited for tells nobody)
            await asyncio.sleep(0.005)


def test_one_is_made_when_there_is_none_or_an_old_one(tmp_path: Path) -> None:
    async def scenario(store: ThreadedStore, loop: Backups, clock: StillClock) -> None:
        told: list[str] = []
        loop.on_made = lambda: told.append("made")
        loop.ask_if_old()
        await until(lambda: told == ["made"])
        meta = await store.read(read_meta)
        assert loop.newest is not None
        assert meta.backup_file == loop.newest.path.name
        loop.ask_if_old()
        assert not loop._asked.is_set(), "it is fresh"
        for away in (timedelta(hours=26), timedelta(hours=-2)):
            clock.at = NOW + away
            before = loop.newest
            loop.ask_if_old()
            await until(lambda b=before: loop.newest != b)  # type: ignore[misc]
            clock.at = NOW
        assert loop.view()["problem"] is None

    play(tmp_path, scenario)


def test_one_that_is_being_made_is_no_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `agentd` starts it looks twice: at once, and when the runner is there."""
    begun: list[str] = []
    free = threading.Event()

    def slowly(*given: Any) -> Any:
        begun.append("one")
        assert free.wait(20)
        return make_backup(*given)

    monkeypatch.setattr(backups_module, "make_backup", slowly)

    async def scenario(_store: ThreadedStore, loop: Backups, _clock: StillClock) -> None:
        loop.ask_if_old()
        await until(lambda: begun == ["one"])
        loop.ask_if_old()
        free.set()
        await until(lambda: not loop._making)
        assert begun == ["one"]
        assert len(list_backups(tmp_path)) == 1

    play(tmp_path, scenario)


def test_none_are_made_where_none_are_wanted(tmp_path: Path) -> None:
    async def scenario(_store: ThreadedStore, loop: Backups, _clock: StillClock) -> None:
        loop.ask()
        loop.ask_if_old()
        assert not loop._asked.is_set()

    play(tmp_path, scenario, kept=0)


def test_a_full_disk_is_shown_until_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(store: ThreadedStore, loop: Backups, _clock: StillClock) -> None:
        with monkeypatch.context() as full:
            full.setattr(backup, "SPARE_BYTES", 2**62)
            loop.ask()
            await until(lambda: loop.problem is not None)
        assert "make room" in str(loop.view()["problem"])
        assert await store.read(read_meta), "the database itself is well"
        loop.ask()
        await until(lambda: loop.newest is not None)
        assert loop.problem is None

    play(tmp_path, scenario)


def test_a_copy_that_somebody_removed_holds_nothing(tmp_path: Path) -> None:
    async def scenario(store: ThreadedStore, loop: Backups, _clock: StillClock) -> None:
        await store.write(lambda c: write_meta(c, backup_seq=9, backup_file="gone"))
        await loop._note_what_is_there()
        assert (await store.read(read_meta)).backup_seq == 0

    play(tmp_path, scenario)


def test_damage_found_beside_the_work_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups_module, "check", lambda _database, _stop: "page 7 is gone")

    async def scenario(store: ThreadedStore, _loop: Backups, _clock: StillClock) -> None:
        told: list[str] = []
        store.on_damage = told.append
        await until(lambda: bool(told))
        assert "page 7" in told[0]

    play(tmp_path, scenario, check_first=True)


def test_nights_differ_and_stay() -> None:
    minutes = {night_minute(f"n{number}") for number in range(200)}
    assert len(minutes) > 80
    assert all("01:00" <= minute < "05:00" for minute in minutes)
    assert night_minute("n1") == night_minute("n1")
