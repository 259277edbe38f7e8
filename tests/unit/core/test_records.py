"""Rows of actions while a report is applied: everything that changed is saved, and little else."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import event, select
from sqlalchemy.engine import Connection

from agent.core.nodes.records import execution_text, load_records, save_records
from agent.core.store.inline import InlineStore
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions
from agent.domain.definition import Owner
from agent.wire.definition import decode_definition
from agent.wire.execution import Execution, decode_execution
from agent.wire.strict_json import decode
from tests.fakes.reporting_node import execution

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STARTED: Execution = decode_execution(execution("STARTED", reason="due", attempt=1))


def saved(change: Any) -> tuple[AnyRow, AnyRow, list[str]]:
    """Two known rows after a change of the first one, and the statements that it took."""
    store = InlineStore.in_memory()
    statements: list[str] = []

    def note(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    def work(connection: Connection) -> tuple[AnyRow, AnyRow]:
        fresh = load_records(connection, {"n": ["a", "b"]})["n"]
        for name in ("a", "b"):
            fresh.add(name, Owner.NODE, NOW).define(defined(name, revision=1))
        save_records(connection, [fresh])
        known = load_records(connection, {"n": ["a", "b"]})["n"]
        record = known.held("a")
        assert record is not None
        change(known, record)
        event.listen(connection, "before_cursor_execute", note)
        assert [one.id for one in known.changed()] == ["a"]
        save_records(connection, [known])
        one, other = connection.execute(select(actions).order_by(actions.c.id)).all()
        return one, other

    one, other = asyncio.run(store.write(work))
    return one, other, [text for text in statements if text.startswith("UPDATE")]


def defined(name: str, revision: int, **more: Any) -> Any:
    document = {"id": name, "kind": "sleep", "owner": "node", "revision": revision, **more}
    return decode_definition(document)


def test_a_report_of_the_execution_sets_no_column_that_lists_are_filtered_by() -> None:
    one, other, (statement,) = saved(lambda _, record: record.execute(STARTED, NOW))
    assert (one.status, one.attempt, one.kind, one.revision) == ("STARTED", 1, "sleep", 1)
    assert other.status == "NULL"
    for column in ("kind", "correlation_id", "recurring_id", "service", "approval_state"):
        assert f'"{column}"' not in statement


def test_another_definition_is_saved_whole() -> None:
    changed = defined("a", 2, kind="walk", correlation_id="c", service="s", from_date=str(NOW))
    one, other, (_,) = saved(lambda _, record: record.define(changed))
    assert (one.kind, one.revision, one.correlation_id, one.service) == ("walk", 2, "c", "s")
    assert (one.from_date, decode(one.definition)["kind"]) == (NOW, "walk")
    assert (other.kind, other.correlation_id) == ("sleep", None)


def test_a_row_that_is_given_to_the_core_is_the_cores() -> None:
    one, other, _ = saved(lambda known, record: known.give_to_core(record))
    assert (one.owner, other.owner) == ("core", "node")


def test_an_execution_is_shown_with_all_of_its_members() -> None:
    shown = decode(execution_text(STARTED))
    assert shown["execution_status"] == "STARTED"
    assert {"error", "missed", "output", "signal", "verdict"} <= shown.keys()
    told = decode_execution(
        {"execution_status": "NULL", "started_at": "2026-03-01T14:00:00.5+02:00"}
    )
    assert decode(execution_text(told))["started_at"] == "2026-03-01T12:00:00.500000Z"
