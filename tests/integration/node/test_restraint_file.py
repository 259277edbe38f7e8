"""Pauses and brakes outlive their database, and the newer of file and database has its way."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent.domain.definition import Owner
from agent.node.restraint_file import FILE, RestraintFile, snapshot
from agent.node.store import brakes, recurring
from agent.node.store.meta import read_meta, write_meta
from agent.node.store.threaded import ThreadedStore
from tests.integration.node.test_evidence import a_rule, deliver
from tests.unit.domain.builders import NOW, after

pytestmark = pytest.mark.timeout(30)
Play = Callable[[ThreadedStore, RestraintFile], Awaitable[Any]]


def live(folder: Path, database: str, scenario: Play, *, restored: bool = False) -> RestraintFile:
    """One life with this database; the file in `folder` is that of all of them."""

    async def run() -> RestraintFile:
        store = ThreadedStore(folder / database)
        kept = RestraintFile(store=store, state_dir=folder, log=structlog.get_logger())
        try:
            if restored:
                await store.write(lambda c: write_meta(c, restored='{"at": "x"}'))
            await kept.begin(restored=restored)
            await scenario(store, kept)
        finally:
            await store.close()
        return kept

    return asyncio.run(run())


def restrain(connection: sqlite3.Connection) -> None:
    values = {"kind": "k", "labels": {}, "reason": "r", "by": "b", "expires_at": after(60)}
    brakes.insert(connection, values, NOW)
    write_meta(connection, paused=1, paused_by="me", pause_reason="why")


async def restrain_and_keep(store: ThreadedStore, kept: RestraintFile) -> None:
    await store.write(restrain)
    await kept.keep()


def test_an_older_database_is_told(tmp_path: Path) -> None:
    live(tmp_path, "lost.db", restrain_and_keep)

    async def look(store: ThreadedStore, _kept: RestraintFile) -> None:
        found = await store.read(snapshot)
        assert [(brake.id, brake.kind, brake.expires_at) for brake in found.brakes] == [
            (1, "k", after(60))
        ]
        assert (found.pause["paused"], found.pause["pause_reason"]) == (1, "why")
        assert "last" in json.loads((await store.read(read_meta)).restored)["restraints"]
        await store.write(lambda c: brakes.lift(c, 1))
        await store.write(lambda c: write_meta(c, paused=0))
        await _kept.keep()

    live(tmp_path, "copy.db", look, restored=True)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600

    async def stays_lifted(store: ThreadedStore, _kept: RestraintFile) -> None:
        found = await store.read(snapshot)
        assert (found.brakes, found.pause["paused"]) == ((), 0)
        made = await store.write(lambda c: brakes.insert(
            c, {"kind": "k", "labels": {}, "reason": "r", "by": "b"}, NOW
        ))  # fmt: skip
        assert made.id == 2, "no number is used twice"

    live(tmp_path, "lost.db", stays_lifted)  # a copy by hand: nobody says that it was restored


def test_a_newer_database_stays_as_it_is(tmp_path: Path) -> None:
    async def nothing(_store: ThreadedStore, _kept: RestraintFile) -> None:
        return

    live(tmp_path, "a.db", nothing)
    before = (tmp_path / FILE).read_bytes()
    live(tmp_path, "a.db", restrain_and_keep)
    (tmp_path / FILE).write_bytes(before)  # as if the latest change could not be written

    async def look(store: ThreadedStore, _kept: RestraintFile) -> None:
        assert len((await store.read(snapshot)).brakes) == 1

    live(tmp_path, "a.db", look)
    assert len(json.loads((tmp_path / FILE).read_text())["brakes"]) == 1, "and is kept again"


@pytest.mark.parametrize("content", [None, "", "{}", '{"number": "x"}', "[1"])
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / FILE).write_text(content)

    async def look(store: ThreadedStore, _kept: RestraintFile) -> None:
        told = json.loads((await store.read(read_meta)).restored)["restraints"]
        assert told.startswith("lost since that copy")
        assert FILE in told

    live(tmp_path, "a.db", look, restored=True)
    assert json.loads((tmp_path / FILE).read_text())["brakes"] == []


def test_what_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    async def scenario(_store: ThreadedStore, kept: RestraintFile) -> None:
        part = tmp_path / f"{FILE}.part"
        part.mkdir()
        await restrain_and_keep(_store, kept)
        assert kept.problem is not None
        part.rmdir()
        await kept.keep_again()
        assert kept.problem is None

    live(tmp_path, "a.db", scenario)


def test_the_pause_of_a_recurring_action(tmp_path: Path) -> None:
    async def pause(store: ThreadedStore, kept: RestraintFile) -> None:
        def work(connection: sqlite3.Connection) -> Any:
            deliver(connection, a_rule())
            connection.execute("UPDATE recurring SET paused = 'why'")
            return recurring.by_id(connection, "r")

        await kept.keep_pause(await store.write(work))

    live(tmp_path, "lost.db", pause)

    async def deliver_again(store: ThreadedStore, _kept: RestraintFile) -> None:
        rule = await store.write(lambda c: deliver(c, a_rule()))
        assert (rule.paused, rule.definition.owner) == ("why", Owner.CORE)
        assert (await store.read(read_meta)).pauses_owed == ""

    live(tmp_path, "copy.db", deliver_again, restored=True)

    async def known_already(store: ThreadedStore, kept: RestraintFile) -> None:
        rule = await store.read(lambda c: recurring.by_id(c, "r"))
        assert rule is not None
        assert rule.paused == "why"
        await store.write(lambda c: c.execute("UPDATE recurring SET paused = NULL"))
        rule = await store.read(lambda c: recurring.by_id(c, "r"))
        assert rule is not None
        await kept.keep_pause(rule)

    live(tmp_path, "copy.db", known_already)
    assert json.loads((tmp_path / FILE).read_text())["recurring"] == {}
