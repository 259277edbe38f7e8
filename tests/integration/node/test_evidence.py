"""After a restore the runner's records are believed first; what nobody can tell is named."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest

from agent.domain.action import Action
from agent.domain.definition import Definition, OnRestart, Owner
from agent.domain.ending import RESTORED
from agent.domain.errors import NotFound
from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.manifest import agree_terms
from agent.domain.recurring import Recurring
from agent.domain.schedule.spec import Schedule
from agent.domain.starting import unstart
from agent.node.occurrences import Planner
from agent.node.ports import Hello, RunKey, StartRecord
from agent.node.recurring import apply_definition
from agent.node.restored import (
    REMOVED,
    Findings,
    doubt_overdue,
    doubt_unanswered,
    finish_evidence,
    insert_unknown,
    pending_restore,
    take_starts,
)
from agent.node.store import actions, events, recurring
from agent.node.store.meta import read_meta, write_meta
from agent.node.views import find
from tests.integration.node.database import make_ledger, open_memory
from tests.integration.node.test_turn import accept, turn
from tests.unit.domain.builders import NOW, after, make_definition

LEDGER = make_ledger(3)


@pytest.fixture
def connection() -> sqlite3.Connection:
    return open_memory()


def record(row: int, start_no: int = 1, attempt: int = 1, name: str | None = None) -> StartRecord:
    return StartRecord(key=RunKey(row, start_no, name or f"a{row}"), attempt=attempt, kind="sleep")


def take(connection: sqlite3.Connection, *records: StartRecord) -> Findings:
    found = Findings()
    first_free = actions.next_row(connection)
    for one in records:  # as pages of one: the most that paging can tear apart
        take_starts(connection, LEDGER, [one], NOW, first_free, found)
    insert_unknown(connection, LEDGER, NOW, lambda _: Lane.EXCLUSIVE, found)
    return found


def known(connection: sqlite3.Connection, name: str) -> Action:
    action = actions.by_id(connection, name)
    assert action is not None
    return action


def doubt(connection: sqlite3.Connection, *, evidence: bool) -> Findings:
    found = Findings()
    last: int | None = 0
    while last is not None:
        last = doubt_overdue(
            connection, LEDGER, NOW, last, lambda a: agree_terms(a.definition, None), found,
            absence_is_evidence=evidence,
        )  # fmt: skip
    return found


def test_later_attempts_are_written_down_once(connection: sqlite3.Connection) -> None:
    accept(connection, "a1")
    found = take(connection, record(1), record(1, 2), record(1, 3, attempt=2))
    action = known(connection, "a1")
    assert (action.execution_status, action.start_no, action.attempt) == (
        ExecutionStatus.STARTED, 3, 2,
    )  # fmt: skip
    assert take(connection, record(1, 3, attempt=2)).starts == 0, "read again, nothing changes"
    assert found.unknown_actions == 0


def test_what_has_ended_or_is_another_action_stays(connection: sqlite3.Connection) -> None:
    action = accept(connection, "a1")
    LEDGER.move(connection, action, unstart(action, Reason.WITHDRAWN, NOW))
    accept(connection, "a2")
    take(connection, record(1), record(2, name="somebody-else"))
    assert known(connection, "a1").execution_status is ExecutionStatus.WONT_START
    assert known(connection, "a2").execution_status is ExecutionStatus.NULL


def test_an_unknown_action_gets_its_own_row_and_never_starts(
    connection: sqlite3.Connection,
) -> None:
    accept(connection, "a1", from_date=after(1000))
    found = take(connection, record(7), record(7, 2, attempt=2))
    action = known(connection, "a7")
    assert (action.row, action.start_no, action.attempt) == (7, 2, 2)
    assert action.parked is not None
    assert (found.unknown_ids, actions.next_row(connection)) == (["a7"], 8)
    assert found.doubtful == 0, "whether its outcome is known, the claim will say"
    assert events.of_action(connection, 7, 10)[0].body["to"] == "STARTED"
    connection.execute("UPDATE actions SET execution_status = 'NULL', due_at = 1, parked = NULL")
    assert "a7" not in [started.definition.id for started in turn(connection).started]


def test_the_cores_delivery_completes_it(connection: sqlite3.Connection) -> None:
    write_meta(connection, enrolled="n1")
    take(connection, record(7))
    incoming = make_definition(id="a7", owner=Owner.CORE, payload={"x": 1})
    LEDGER.apply_definition(connection, incoming, NOW, lane=Lane.EXCLUSIVE)
    action = known(connection, "a7")
    assert action.definition.payload == {"x": 1}
    assert (action.execution_status, action.parked) == (ExecutionStatus.STARTED, None)


def test_rows_that_were_pruned_before_stay_pruned(connection: sqlite3.Connection) -> None:
    write_meta(connection, row_floor=10)
    assert take(connection, record(7)).starts == 0
    assert actions.by_row(connection, 7) is None


def test_an_occurrence_that_ran_forbids_its_instant(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO recurring (id, owner, kind, revision, definition, accepted_at, since_at,"
        " anchor_at, run_count) VALUES ('r', 'node', 'sleep', 1, '{}', 0, 0, 0, 4)"
    )
    take(
        connection,
        record(5, name="r@2026-03-01T11:00:00Z"),
        record(6, name="r@2026-03-01T10:00:00Z"),
        record(7, name="r@2026-03-01T11:00:00Z.b1"),
    )
    row = connection.execute("SELECT last_nominal_at, run_count FROM recurring").fetchone()
    assert row["last_nominal_at"] == 1_772_362_800_000_000
    assert row["run_count"] == 6
    assert known(connection, "r@2026-03-01T11:00:00Z").definition.recurring_id == "r"


def a_rule(**fields: Any) -> Definition:
    schedule = Schedule(every="1 hour", max_runs=3)
    return make_definition(id="r", owner=Owner.CORE, schedule=schedule, **fields)


def deliver(connection: sqlite3.Connection, definition: Definition) -> Recurring:
    planner = Planner(connection, LEDGER, NOW, lambda _: Lane.EXCLUSIVE)
    _, rule, faults = apply_definition(planner, definition)
    assert rule is not None, faults
    return rule


def ran_three_times() -> list[StartRecord]:
    hours = [f"r@2026-03-01T{hour}:00:00Z" for hour in ("09", "10", "11")]
    by_hand = record(9, name="r@2026-03-01T09:00:00Z.b1")
    return [*(record(5 + number, name=name) for number, name in enumerate(hours)), by_hand]


def test_a_lost_rule_that_is_delivered_again_does_not_begin_to_count_anew(
    connection: sqlite3.Connection,
) -> None:
    pending_restore(connection, hello(), NOW, overtaken=True)
    take(connection, *ran_three_times())
    rule = deliver(connection, a_rule())
    assert (rule.state.run_count, rule.ended_reason) == (3, "max_runs")
    for name in ("r@2026-03-01T09:00:00Z", "r@2026-03-01T09:00:00Z.b1"):
        assert known(connection, name).definition.recurring_id == "r"


def test_a_rule_that_is_over_by_what_ran_since_the_copy_runs_no_more(
    connection: sqlite3.Connection,
) -> None:
    deliver(connection, a_rule())
    pending_restore(connection, hello(), NOW, overtaken=True)
    take(connection, *ran_three_times())
    turn(connection)
    rule = recurring.by_id(connection, "r")
    assert rule is not None
    assert (rule.state.run_count, rule.ended_reason) == (3, "max_runs")


def test_what_has_a_record_and_no_known_end_is_doubtful(connection: sqlite3.Connection) -> None:
    told = pending_restore(connection, hello(), NOW, overtaken=True)
    assert told is not None
    finish_evidence(connection, told, Findings(), "boot")
    doubt_unanswered(connection, ["a", "b"])
    doubt_unanswered(connection, [str(number) for number in range(200)])
    kept = json.loads(read_meta(connection).restored)
    assert (kept["doubtful"], len(kept["doubtful_ids"])) == (202, 100)


def test_an_empty_database_is_no_copy(connection: sqlite3.Connection) -> None:
    told = pending_restore(connection, hello(7), NOW, overtaken=False)
    assert told is not None
    assert told["why"] == REMOVED
    with pytest.raises(NotFound, match="begun empty"):
        find(connection, "gone")


@pytest.mark.parametrize("evidence", [True, False])
def test_overdue_without_a_record(connection: sqlite3.Connection, evidence: bool) -> None:
    accept(connection, "again")
    accept(connection, "never", on_restart=OnRestart.NEVER)
    accept(connection, "later", from_date=after(10))
    assert doubt(connection, evidence=evidence).doubtful_ids == ["again", "never"]
    assert known(connection, "again").verdict == RESTORED
    assert known(connection, "later").verdict is None
    never = known(connection, "never")
    if evidence:
        assert (never.execution_status, never.verdict) == (ExecutionStatus.NULL, RESTORED)
    else:
        assert (never.execution_status, never.reason) == (ExecutionStatus.FAILED, "interrupted")
        assert never.verdict == RESTORED


def hello(max_row: int = 0, **fields: Any) -> Hello:
    return Hello(version="1", pid=1, max_row=max_row, **fields)


def test_an_old_copy_is_recognised_without_a_word(connection: sqlite3.Connection) -> None:
    accept(connection, "a1")

    def told(hello: Hello, *, overtaken: bool = False) -> bool:
        write_meta(connection, restored="")
        return pending_restore(connection, hello, NOW, overtaken=overtaken) is not None

    assert not told(hello(1))
    assert told(hello(2))
    assert told(hello(1), overtaken=True)
    assert told(hello(1, running=(RunKey(1, 1, "a1"),)))
    turn(connection)
    assert not told(hello(1, running=(RunKey(1, 1, "a1"),)))


def test_it_stays_pending_until_all_is_read(connection: sqlite3.Connection) -> None:
    told = pending_restore(connection, hello(), NOW, overtaken=True)
    assert told is not None
    assert pending_restore(connection, hello(), NOW, overtaken=False) == told
    finish_evidence(connection, told, Findings(), "boot")
    assert pending_restore(connection, hello(), NOW, overtaken=False) is None
    assert json.loads(read_meta(connection).restored)["pending"] is False
