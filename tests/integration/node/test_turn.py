"""One turn against a real database: what it decides, and that one fault stays one action's."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from agent.domain.action import Action, Transition
from agent.domain.ending import RunState
from agent.domain.errors import IllegalTransition
from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.manifest import agree_terms
from agent.domain.starting import Slots
from agent.node.engine import run_key
from agent.node.ledger import Ledger
from agent.node.store import actions
from agent.node.turn import Ended, TurnInput, TurnResult, run_turn
from tests.integration.node.database import make_ledger, open_memory
from tests.unit.domain.builders import NOW, after, make_definition, make_record


class Forbidding(Ledger):
    """A ledger that finds every move of one action illegal."""

    def move(
        self, connection: sqlite3.Connection, action: Action, transition: Transition, **more: Any
    ) -> Action:
        if action.definition.id == "bad":
            raise IllegalTransition("there is no way")
        return super().move(connection, action, transition, **more)


@pytest.fixture
def connection() -> sqlite3.Connection:
    return open_memory()


def turn(
    connection: sqlite3.Connection, *endings: Ended, ledger: Ledger | None = None, **slots: Any
) -> TurnResult:
    given = TurnInput(
        now=NOW, endings=endings, slots=Slots(**({"parallel_max": 4} | slots)), jitter=0.0,
        manifest_of=lambda _: None,
        terms_of=lambda action: agree_terms(action.definition, None),
    )  # fmt: skip
    return run_turn(connection, ledger or make_ledger(7), given)


def accept(connection: sqlite3.Connection, name: str, **fields: Any) -> Action:
    lane = fields.pop("lane", Lane.PARALLEL)
    definition = make_definition(id=name, **fields)
    return make_ledger(len(name)).accept(connection, definition, NOW, lane=lane)


def status(connection: sqlite3.Connection, name: str) -> str:
    action = actions.by_id(connection, name)
    assert action is not None
    return action.execution_status.value


def test_endings_free_places_within_the_same_turn(connection: sqlite3.Connection) -> None:
    accept(connection, "one", lane=Lane.EXCLUSIVE)
    accept(connection, "two", lane=Lane.EXCLUSIVE)
    first = turn(connection)
    assert [action.definition.id for action in first.started] == ["one"]
    ended = Ended(key=run_key(first.started[0]), state=RunState.EXITED, record=make_record())
    second = turn(connection, ended)
    assert [action.definition.id for action in second.started] == ["two"]
    assert status(connection, "one") == "FINISHED"


def test_an_ending_told_twice_or_of_an_older_run_changes_nothing(
    connection: sqlite3.Connection,
) -> None:
    accept(connection, "one")
    started = turn(connection).started[0]
    ended = Ended(key=run_key(started), state=RunState.EXITED, record=make_record(code=3))
    turn(connection, ended)
    assert not turn(connection, ended).changed
    assert turn(connection, ended).settled == [ended.key], "the runner may forget it all the same"


def test_two_of_one_app_do_not_start_in_one_turn(connection: sqlite3.Connection) -> None:
    for name in ("a", "b"):
        accept(connection, name, app_names=("db",))
    accept(connection, "c")
    found = turn(connection)
    assert [action.definition.id for action in found.started] == ["a", "c"]


def test_the_next_instant_is_the_next_due_or_expiry(connection: sqlite3.Connection) -> None:
    accept(connection, "later", from_date=after(60), to_date=after(90))
    assert turn(connection).next_at == after(60)
    accept(connection, "blocked", to_date=after(30))
    assert turn(connection, paused=True).next_at == after(30)


def test_a_fault_of_one_action_stays_its_own(connection: sqlite3.Connection) -> None:
    """CHECKLIST 7: an illegal transition is refused without hurting the daemon."""
    for name in ("bad", "good"):
        accept(connection, name)
    accept(connection, "old", to_date=after(-1), from_date=after(-2))
    found = turn(connection, ledger=Forbidding(lambda _: 1))
    assert [action_id for action_id, _ in found.refused][:1] == ["bad"]
    assert status(connection, "bad") == ExecutionStatus.NULL
    assert status(connection, "good") == ExecutionStatus.STARTED
    assert status(connection, "old") == ExecutionStatus.WONT_START


def test_a_cancel_of_a_run_that_never_happened_is_not_undone(
    connection: sqlite3.Connection,
) -> None:
    accept(connection, "one")
    started = turn(connection).started[0]
    marked = make_ledger().ask_to_stop(connection, started, "cancelled_on_node")
    turn(connection, Ended(key=run_key(marked), state=RunState.NEVER_STARTED, away=True))
    assert status(connection, "one") == "WONT_START"
