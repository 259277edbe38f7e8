"""Rows that this version cannot read: out of the way, visible, and never rewritten."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from typing import Any

import pytest

from agent.domain.action import Action, Transition
from agent.domain.definition import Owner
from agent.domain.ending import RunState
from agent.domain.errors import IllegalTransition
from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.starting import unstart
from agent.node.daemon import open_life
from agent.node.engine import run_key
from agent.node.ledger import Ledger
from agent.node.store import actions, events
from agent.node.store.meta import write_meta
from agent.node.store.pages import Query, page
from agent.node.store.parking import PARKED_PER_TURN_MAX, count_parked
from agent.node.stored import read_stored, stored_view
from agent.node.turn import Ended, TurnResult
from agent.node.views import action_view, summary_view
from tests.integration.node.database import make_ledger, open_memory
from tests.integration.node.test_turn import accept, turn
from tests.unit.domain.builders import NOW, make_definition, make_record

FUTURE = '{"id": "a", "kind": "sleep", "requires": ["time_travel"], "x":  1}'
TORN = '{"id": "a", "kind'


@pytest.fixture
def connection() -> sqlite3.Connection:
    return open_memory()


def store_text(connection: sqlite3.Connection, name: str, text: str) -> None:
    connection.execute("UPDATE actions SET definition = ? WHERE id = ?", (text, name))


def stored_text(connection: sqlite3.Connection, name: str) -> str:
    found = connection.execute("SELECT definition FROM actions WHERE id = ?", (name,)).fetchone()
    return str(found[0])


def known(connection: sqlite3.Connection, name: str) -> Action:
    action = actions.by_id(connection, name)
    assert action is not None
    return action


@pytest.mark.parametrize("text", [FUTURE, TORN, "null", "[" * 100_000])
def test_the_queue_goes_on_beside_it(connection: sqlite3.Connection, text: str) -> None:
    accept(connection, "a", lane=Lane.EXCLUSIVE)
    accept(connection, "behind", lane=Lane.EXCLUSIVE)
    store_text(connection, "a", text)
    result = turn(connection)
    assert [action.definition.id for action in result.started] == ["behind"]
    assert [name for name, _ in result.parked] == ["a"]
    assert known(connection, "a").parked is not None
    assert stored_text(connection, "a") == text, "not one byte of it is changed"
    assert result.next_at is None, "it wakes nobody"


def test_it_does_not_expire_either(connection: sqlite3.Connection) -> None:
    accept(connection, "a", to_date=NOW)
    store_text(connection, "a", FUTURE)
    result = turn(connection)
    assert result.ended == []
    assert known(connection, "a").execution_status is ExecutionStatus.NULL


def test_it_is_shown_and_counted(connection: sqlite3.Connection) -> None:
    accept(connection, "a")
    store_text(connection, "a", FUTURE)
    turn(connection)
    action = page(connection, Query()).actions[0]
    assert "time_travel" in action_view(action, NOW)["parked"]
    assert summary_view(action, NOW)["parked"] is not None
    assert stored_view(read_stored(connection, NOW))["parked"] == 1


def test_cancelling_it_leaves_its_definition_alone(connection: sqlite3.Connection) -> None:
    accept(connection, "a")
    store_text(connection, "a", FUTURE)
    action = known(connection, "a")
    make_ledger().move(connection, action, unstart(action, Reason.CANCELLED_ON_NODE, NOW))
    after = known(connection, "a")
    assert after.execution_status is ExecutionStatus.WONT_START
    assert stored_text(connection, "a") == FUTURE
    assert count_parked(connection) == 0, "what is over needs nobody"


def test_one_that_runs_gets_its_true_result(connection: sqlite3.Connection) -> None:
    accept(connection, "a", app_names=("db",))
    turn(connection)
    store_text(connection, "a", TORN)
    action = known(connection, "a")
    assert action.definition.app_names == ("db",), "its application stays in use"
    ended = Ended(key=run_key(action), state=RunState.EXITED, record=make_record(code=7))
    turn(connection, ended)
    after = known(connection, "a")
    assert (after.execution_status, after.exit_code) == (ExecutionStatus.FAILED, 7)
    assert stored_text(connection, "a") == TORN


def test_one_of_unknown_outcome_is_not_run_again(connection: sqlite3.Connection) -> None:
    accept(connection, "a")
    turn(connection)
    store_text(connection, "a", FUTURE)
    key = run_key(known(connection, "a"))
    result = turn(connection, Ended(key=key, state=RunState.UNKNOWN))
    assert result.started == []
    assert known(connection, "a").execution_status is ExecutionStatus.NULL
    assert known(connection, "a").parked is not None


def test_another_version_looks_at_it_again(connection: sqlite3.Connection) -> None:
    accept(connection, "a")
    readable = stored_text(connection, "a")
    store_text(connection, "a", FUTURE)
    turn(connection)
    store_text(connection, "a", readable)
    assert turn(connection).started == [], "this version has given up"
    write_meta(connection, version="0.0.0-before")
    open_life(connection, "n1", random.Random(1).getrandbits)
    assert [action.definition.id for action in turn(connection).started] == ["a"]


def test_a_new_revision_that_can_be_read_unparks_it(connection: sqlite3.Connection) -> None:
    ledger = make_ledger()
    ledger.accept(connection, make_definition(id="a", owner=Owner.CORE), NOW, lane=Lane.PARALLEL)
    store_text(connection, "a", FUTURE)
    turn(connection)
    again = make_definition(id="a", owner=Owner.CORE, revision=2)
    ledger.apply_definition(connection, again, NOW, lane=Lane.PARALLEL)
    assert [action.definition.id for action in turn(connection).started] == ["a"]


def test_many_are_parked_over_several_turns(connection: sqlite3.Connection) -> None:
    for number in range(PARKED_PER_TURN_MAX + 20):
        accept(connection, f"a{number}")
    connection.execute("UPDATE actions SET definition = ?", (FUTURE,))
    first = turn(connection)
    assert first.again
    assert not turn(connection).again
    assert count_parked(connection) == PARKED_PER_TURN_MAX + 20


class Forbidding(Ledger):
    """Finds every move of `bad` illegal."""

    def move(
        self, connection: sqlite3.Connection, action: Action, transition: Transition, **more: Any
    ) -> Action:
        if action.definition.id == "bad":
            raise IllegalTransition("there is no way")
        return super().move(connection, action, transition, **more)


def test_a_forbidden_decision_holds_up_nobody(connection: sqlite3.Connection) -> None:
    accept(connection, "bad", lane=Lane.EXCLUSIVE)
    accept(connection, "good", lane=Lane.EXCLUSIVE)
    result: TurnResult = turn(connection, ledger=Forbidding(random.Random(1).getrandbits))
    assert [action.definition.id for action in result.started] == ["good"]
    assert result.refused == [("bad", "there is no way")]
    assert "there is no way" in str(known(connection, "bad").parked)


def test_rotten_values_of_a_row_and_of_an_event(connection: sqlite3.Connection) -> None:
    accept(connection, "a")
    connection.execute(
        "UPDATE actions SET output = '{', missed = '[[[', app_names = '[\"x', "
        "execution_status = 'NULM'"
    )
    connection.execute("UPDATE events SET body = '{\"torn'")
    action = known(connection, "a")
    assert action.output is None
    assert "NULM" in str(action.parked)
    assert events.after(connection, 0, 10)[0].plain()["unreadable"]
    accept(connection, "b", app_names=("x",))
    connection.execute("UPDATE actions SET app_names = '[\"x' WHERE id = 'b'")
    assert turn(connection, apps={"y"}).started != []


def test_an_update_of_a_parked_row_is_still_conditional(connection: sqlite3.Connection) -> None:
    accept(connection, "a")
    store_text(connection, "a", FUTURE)
    action = known(connection, "a")
    stale = replace(action, start_no=9)
    with pytest.raises(actions.StaleAction):
        actions.update(connection, stale, action)
