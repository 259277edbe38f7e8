"""The core's freeze on a node: a brake of its own, once, until it is thawed, lifted or over."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent.domain.brake import FREEZES_MAX, Brake
from agent.domain.clock_doubt import Moment
from agent.domain.instants import format_instant
from agent.node.restraint_file import RestraintFile
from agent.node.store import brakes
from agent.node.store.threaded import ThreadedStore
from agent.node.sync.apply import Applied, apply_pull
from agent.wire.brake import encode_brake
from agent.wire.messages import PullAnswer, Request
from tests.integration.node.database import make_kinds, make_ledger, open_memory
from tests.unit.domain.builders import NOW, after


@pytest.fixture
def connection() -> sqlite3.Connection:
    return open_memory()


def pull(
    connection: sqlite3.Connection, *requests: Request, moment: Moment | None = None
) -> Applied:
    answer = PullAnswer(cursor="e.1.m", requests=list(requests))
    return apply_pull(connection, make_ledger(), make_kinds(), answer, NOW, moment)


def freeze(name: str, request_id: str = "", **args: Any) -> Request:
    return Request(
        id=request_id or f"r-{name}", type="freeze", by="anna", reason="sale",
        args={"freeze": name, "kind": None, "expires_at": None} | args,
    )  # fmt: skip


def thaw(name: str) -> Request:
    return Request(id=f"t-{name}", type="thaw", by="anna", args={"freeze": name})


def held(connection: sqlite3.Connection) -> list[Brake]:
    return brakes.active(connection, NOW)


def test_a_freeze_holds_everything_and_says_whose_it_is(connection: sqlite3.Connection) -> None:
    applied = pull(connection, freeze("f1", expires_at=format_instant(after(60))))
    assert applied.restrained
    [brake] = held(connection)
    assert brake.holds("anything", {})
    assert (brake.what, brake.by, brake.reason) == ("everything", "core:anna", "sale")
    assert encode_brake(brake)["freeze"] == "f1"
    assert brakes.active(connection, after(61)) == []


def test_a_kind_alone_may_be_frozen(connection: sqlite3.Connection) -> None:
    pull(connection, freeze("f1", kind="redeploy"))
    [brake] = held(connection)
    assert brake.holds("redeploy", {})
    assert not brake.holds("other", {})


def test_what_comes_twice_is_done_once_and_a_thaw_lifts_it(connection: sqlite3.Connection) -> None:
    pull(connection, freeze("f1"), freeze("f2"))
    assert not pull(connection, freeze("f1")).restrained, "the same request"
    assert not pull(connection, freeze("f1", "another")).restrained, "the same freeze"
    assert len(held(connection)) == 2
    assert pull(connection, thaw("f1")).restrained
    assert [brake.freeze for brake in held(connection)] == ["f2"]
    assert not pull(connection, thaw("unknown")).restrained
    assert pull(connection, freeze("f1", "anew")).restrained, "frozen again later"


def test_one_that_is_over_already_holds_nothing_unless_the_clock_is_doubtful(
    connection: sqlite3.Connection,
) -> None:
    passed = format_instant(after(-60))
    assert not pull(connection, freeze("f1", expires_at=passed)).restrained
    doubtful = Moment(at=NOW, doubted=True)
    assert pull(connection, freeze("f2", expires_at=passed), moment=doubtful).restrained


@pytest.mark.parametrize(
    "args",
    [None, {}, {"freeze": 7}, {"freeze": "f", "kind": "NO KIND"},
     {"freeze": "f", "expires_at": "soon"}],
)  # fmt: skip
def test_a_request_that_means_nothing_is_told_and_stops_nothing(
    connection: sqlite3.Connection, args: Any
) -> None:
    bad = Request(id="bad", type="freeze", args=args)
    applied = pull(connection, bad, freeze("good"))
    assert [action_id for action_id, _ in applied.refused] == [None]
    assert "freeze" in applied.refused[0][1]
    assert [brake.freeze for brake in held(connection)] == ["good"]


def test_there_is_an_end_to_them(connection: sqlite3.Connection) -> None:
    many = [freeze(f"f{at}") for at in range(FREEZES_MAX + 1)]
    applied = pull(connection, *many)
    assert len(applied.refused) == 1
    assert len(held(connection)) == FREEZES_MAX


def test_it_outlives_a_database_from_a_backup(tmp_path: Path) -> None:
    """Each life has a database of its own here: the file beside them knows the freeze."""

    async def live(database: str, *, restored: bool) -> list[Brake]:
        store = ThreadedStore(tmp_path / database)
        kept = RestraintFile(store=store, state_dir=tmp_path, log=structlog.get_logger())
        await kept.begin(restored=restored)
        if not restored:
            await store.write(lambda c: pull(c, freeze("f1")))
            await kept.keep()
        found = await store.read(held)
        await store.close()
        return found

    asyncio.run(live("first.db", restored=False))
    [brake] = asyncio.run(live("older.db", restored=True))
    assert (brake.freeze, brake.what) == ("f1", "everything")
