"""Pause, brakes and a doubtful clock in the engine's turn, on a real database."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

import pytest

from agent.domain.action import Action
from agent.domain.brake import Brake
from agent.domain.definition import Owner
from agent.domain.ending import RunState
from agent.domain.instants import to_us
from agent.domain.lane import Lane
from agent.domain.manifest import agree_terms
from agent.domain.starting import Slots
from agent.node.engine import run_key
from agent.node.restraints import SHELVED_PER_TURN_MAX
from agent.node.store import actions, brakes
from agent.node.store.brakes import UNSHELVED_PER_TURN_MAX
from agent.node.store.meta import read_meta, write_meta
from agent.node.store.pages import Query, page
from agent.node.turn import Ended, TurnInput, TurnResult, run_turn
from tests.integration.node.database import make_ledger, open_memory
from tests.unit.domain.builders import NOW, after, make_definition, make_record

MANY = 20_000


@pytest.fixture
def connection() -> sqlite3.Connection:
    return open_memory()


def turn(
    connection: sqlite3.Connection, *endings: Ended, now: datetime = NOW, mark: str = "",
    stepped_s: float = 0.0, **slots: Any,
) -> TurnResult:  # fmt: skip
    given = TurnInput(
        now=now, endings=endings, slots=Slots(**({"parallel_max": 4} | slots)), jitter=0.0,
        manifest_of=lambda _: None, terms_of=lambda action: agree_terms(action.definition, None),
        mark=mark, stepped_s=stepped_s,
    )  # fmt: skip
    return run_turn(connection, make_ledger(7), given)


def accept(connection: sqlite3.Connection, name: str, **fields: Any) -> Action:
    lane = fields.pop("lane", Lane.PARALLEL)
    definition = make_definition(id=name, **fields)
    return make_ledger(len(name)).accept(connection, definition, NOW, lane=lane)


def brake(connection: sqlite3.Connection, **fields: Any) -> Brake:
    values: dict[str, Any] = {
        "kind": None,
        "labels": {},
        "reason": "why",
        "by": "ann",
        "expires_at": None,
    }
    return brakes.insert(connection, values | fields, NOW)


def status(connection: sqlite3.Connection, name: str) -> str:
    found = actions.by_id(connection, name)
    assert found is not None
    return found.execution_status.value


def names(found: TurnResult) -> list[str]:
    return [action.definition.id for action in found.started]


def test_a_pause_that_is_committed_holds_in_the_very_next_turn(
    connection: sqlite3.Connection,
) -> None:
    """Whatever the engine has in memory: the database decides."""
    accept(connection, "a")
    accept(connection, "late", to_date=NOW, from_date=after(-9))
    write_meta(connection, paused=1)
    assert names(turn(connection)) == []
    assert status(connection, "late") == "WONT_START", "windows close all the same"
    write_meta(connection, paused=0)
    assert names(turn(connection)) == ["a"]


def test_what_a_brake_holds_waits_and_the_rest_goes_on(connection: sqlite3.Connection) -> None:
    accept(connection, "held", kind="redeploy", lane=Lane.EXCLUSIVE)
    accept(connection, "tier", labels={"tier": "db"})
    accept(connection, "free", lane=Lane.EXCLUSIVE)
    accept(connection, "too-late", kind="redeploy", to_date=after(60))
    made = [brake(connection, kind="redeploy"), brake(connection, labels={"tier": "db"})]
    first = turn(connection)
    assert names(first) == ["free"]
    assert first.restraints.brakes == made
    assert turn(connection, exclusive_free=False).restraints.shelved == 0, "each is met once"
    assert status(connection, "held") == "NULL"
    turn(connection, now=after(60))
    assert status(connection, "too-late") == "WONT_START"
    assert actions.count_due(connection, NOW, 99) == 2
    assert actions.count_braked(connection, NOW, 99) == 2
    listed = page(connection, Query(view="queue"))
    assert {"held", "tier"} <= {action.definition.id for action in listed.actions}


def test_a_brake_expires_at_its_instant_which_is_the_next_one(
    connection: sqlite3.Connection,
) -> None:
    accept(connection, "held")
    brake(connection, kind="sleep", expires_at=after(60))
    held = turn(connection)
    assert (names(held), held.next_at) == ([], after(60))
    doubted = turn(connection, now=after(60), clock_doubtful=True)
    assert doubted.restraints.gone == [], "nothing ends by a doubtful clock"
    gone = turn(connection, now=after(60))
    assert [one.id for one in gone.restraints.gone] == [1]
    assert names(gone) == ["held"]
    assert turn(connection).next_at is None


def test_a_lifted_brake_lets_go_and_its_number_is_not_used_again(
    connection: sqlite3.Connection,
) -> None:
    accept(connection, "held")
    made = brake(connection, kind="sleep")
    turn(connection)
    brakes.lift(connection, made.id)
    assert brakes.active(connection, None) == []
    assert names(turn(connection)) == ["held"]
    assert brake(connection, kind="other").id == made.id + 1


def test_what_is_changed_is_looked_at_again(connection: sqlite3.Connection) -> None:
    definition = make_definition(id="a", owner=Owner.CORE, labels={"tier": "db"})
    ledger = make_ledger()
    ledger.accept(connection, definition, NOW, lane=Lane.PARALLEL)
    brake(connection, labels={"tier": "db"})
    assert names(turn(connection)) == []
    newer = make_definition(id="a", owner=Owner.CORE, labels={"tier": "web"}, revision=2)
    ledger.apply_definition(connection, newer, NOW, lane=Lane.PARALLEL)
    assert names(turn(connection)) == ["a"]


def test_many_thousand_held_ones_hold_up_nobody(connection: sqlite3.Connection) -> None:
    """Met once, in portions; then the turn does not see them. Let go, they come back whole."""
    accept(connection, "held-0", kind="redeploy", lane=Lane.EXCLUSIVE)
    columns = ", ".join(
        name for name in (row[1] for row in connection.execute("PRAGMA table_info(actions)"))
        if name not in {"row", "id"}
    )  # fmt: skip
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        f" INSERT INTO actions (row, id, {columns})"
        f" SELECT 10 + i, 'held-' || i, {columns} FROM n, actions WHERE id = 'held-0'",
        (MANY - 1,),
    )
    accept(connection, "behind", lane=Lane.EXCLUSIVE)
    made = brake(connection, kind="redeploy")
    turns = 1
    while not names(turn(connection)):
        turns += 1
        assert turns <= MANY / SHELVED_PER_TURN_MAX + 2
    assert turn(connection, exclusive_free=False).restraints.shelved == 0
    assert actions.count_due(connection, NOW, 2 * MANY) == MANY
    brakes.lift(connection, made.id)
    turns = 0
    while actions.count_braked(connection, NOW, MANY):
        assert turn(connection, exclusive_free=False).restraints.again
        turns += 1
    assert turns <= MANY / UNSHELVED_PER_TURN_MAX + 1
    assert actions.count_due(connection, NOW, 2 * MANY) == MANY


def test_nothing_starts_or_ends_by_a_doubtful_clock(connection: sqlite3.Connection) -> None:
    started = accept(connection, "runs", to_date=after(-1), from_date=after(-9))
    connection.execute("UPDATE actions SET expires_at = NULL")
    waiting = accept(connection, "waits")
    accept(connection, "late", to_date=after(-1), from_date=after(-9))
    doubted = turn(connection, clock_doubtful=True)
    assert (doubted.started, doubted.ended) == ([], [])
    connection.execute(
        "UPDATE actions SET execution_status = 'STARTED', attempt = 1, start_no = 1 WHERE row = ?",
        (started.row,),
    )
    running = actions.by_row(connection, started.row)
    assert running is not None
    unknown = Ended(key=run_key(running), state=RunState.UNKNOWN, away=True)
    turn(connection, unknown, clock_doubtful=True)
    assert status(connection, "runs") == "NULL", "its window is judged when the clock is believed"
    turn(connection)
    assert status(connection, "runs") == "WONT_FINISH"
    assert status(connection, "late") == "WONT_START"
    assert status(connection, waiting.definition.id) == "STARTED"


def test_the_believed_time_is_kept_with_what_changed(connection: sqlite3.Connection) -> None:
    turn(connection, mark="m1")
    assert read_meta(connection).clock_mark == ""
    accept(connection, "a")
    turn(connection, mark="m2")
    assert read_meta(connection).clock_mark == "m2"


@pytest.mark.parametrize("by_s", [-9 * 86_400.0, 1800.0])
def test_delays_follow_the_machine_and_dates_the_clock(
    connection: sqlite3.Connection, by_s: float
) -> None:
    accept(connection, "again")
    accept(connection, "dated", from_date=after(45))
    run = turn(connection).started[0]
    connection.execute(
        "UPDATE actions SET execution_status = 'NULL', due_at = ? WHERE row = ?",
        (to_us(after(30)), run.row),
    )
    accept(connection, "now")
    turn(connection, now=after(by_s), stepped_s=by_s, parallel_used=4)
    due = {name: actions.by_id(connection, name) for name in ("again", "dated", "now")}
    assert [one.due_at for one in due.values() if one] == [
        after(by_s + 30), after(45), after(by_s),
    ]  # fmt: skip


@pytest.mark.parametrize("by_s", [-9 * 86_400.0, 1800.0])
def test_a_brake_for_a_while_follows_the_machine_and_one_until_a_date_the_clock(
    connection: sqlite3.Connection, by_s: float
) -> None:
    for_s = brake(connection, kind="a", expires_at=after(60), elapses=True)
    until = brake(connection, kind="b", expires_at=after(3600))
    for_ever = brake(connection, kind="c")
    lifted = brake(connection, kind="d", expires_at=after(60), elapses=True)
    brakes.lift(connection, lifted.id)
    found = turn(connection, now=after(by_s), stepped_s=by_s).restraints.brakes
    assert [(one.id, one.expires_at) for one in found] == [
        (for_s.id, after(by_s + 60)), (until.id, after(3600)), (for_ever.id, None),
    ]  # fmt: skip
    assert turn(connection, now=after(by_s + 60)).restraints.gone[0].id == for_s.id


def test_a_brake_that_had_expired_does_not_come_back(connection: sqlite3.Connection) -> None:
    brake(connection, expires_at=after(60), elapses=True)
    assert turn(connection, now=after(1861), stepped_s=1800).restraints.brakes == []
    brake(connection, expires_at=after(60), elapses=True)
    assert turn(connection, now=after(-1739), stepped_s=-1800).restraints.brakes == []


def test_a_brake_of_after_the_step_is_not_moved(connection: sqlite3.Connection) -> None:
    made = brakes.insert(
        connection,
        {"kind": "a", "labels": {}, "reason": "r", "by": "b", "expires_at": after(1900),
         "elapses": True},
        after(1800),
    )  # fmt: skip
    (found,) = turn(connection, now=after(1801), stepped_s=1800).restraints.brakes
    assert (found.id, found.expires_at) == (made.id, after(1900))


@pytest.mark.parametrize("to_date", [None, after(40), after(7200)])
def test_a_start_deadline_counts_what_was_waited_whatever_the_clock_did(
    connection: sqlite3.Connection, to_date: datetime | None
) -> None:
    accept(connection, "a", start_deadline_s=60, to_date=to_date)
    busy: dict[str, Any] = {"parallel_used": 4}
    far = -400 * 86_400.0
    turn(connection, now=after(10), **busy)
    turn(connection, now=after(far + 20), stepped_s=far, **busy)
    assert turn(connection, now=after(far + 30), **busy).next_at == after(far + 60)
    ends = after(60) if to_date is None else min(after(60), to_date)
    assert turn(connection, now=after(31), stepped_s=-far, **busy).next_at == ends
    assert status(connection, "a") == "NULL"
    turn(connection, now=ends, **busy)
    assert status(connection, "a") == "WONT_START"


def test_what_was_accepted_after_a_step_forward_is_due_all_the_same(
    connection: sqlite3.Connection,
) -> None:
    definition = make_definition(id="a")
    make_ledger(1).accept(connection, definition, after(1800), lane=Lane.PARALLEL)
    assert names(turn(connection, now=after(1801), stepped_s=1800)) == ["a"]


def test_an_early_end_of_a_hold_is_restarted_by_the_turn(connection: sqlite3.Connection) -> None:
    accept(connection, "h", lane=Lane.HOLD, to_date=after(3600))
    one = turn(connection, exclusive_free=False, parallel_used=4).started[0]
    ended = Ended(
        key=run_key(one), state=RunState.EXITED, record=make_record(stop_cause="window", code=None)
    )
    assert turn(connection, ended).ended[0].lane is Lane.HOLD
