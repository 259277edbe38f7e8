"""How PostgreSQL finds the rows of what nodes report, with and without statistics of the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.engine import Connection

from agent.core.nodes.records import load_records
from agent.core.store.postgres import PostgresDatabase
from agent.core.store.schema import actions
from tests.fakes.core_backends import SteppedClock
from tests.fakes.postgres import Postgres

pytestmark = pytest.mark.timeout(60)
NODES = 3000
RULE = "rule-of-the-fleet"


@pytest.fixture(params=["with statistics", "without"])
def connection(postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A recurring action of the whole fleet: its id is one on every node, all others are not."""
    now = SteppedClock().at
    common = {
        "owner": "core", "created_at": now, "kind": "tidy", "revision": 1, "wanted": True,
        "status": "NULL",
    }  # fmt: skip
    names = [f"n{number}" for number in range(NODES)]
    rows = [{"agent_id": name, "id": RULE, **common} for name in names]
    rows += [{"agent_id": name, "id": f"of-{name}", **common} for name in names]
    engine = PostgresDatabase(postgres.database()).open_engine(writes=True)
    with engine.connect() as opened:
        opened.execute(text("ALTER TABLE actions SET (autovacuum_enabled = off)"))
        opened.execute(insert(actions), rows)
        if request.param == "with statistics":
            opened.execute(text("ANALYZE actions"))
        opened.commit()
        yield opened


def plan_of_loading(connection: Connection, wanted: dict[str, list[str]]) -> str:
    """What `load_records` runs, explained with the same values."""
    asked: list[tuple[str, Any]] = []

    def note(
        _connection: Connection, _cursor: object, statement: str, values: Any, *_: Any
    ) -> None:
        asked.append((statement, values))

    event.listen(connection, "before_cursor_execute", note)
    loaded = load_records(connection, wanted)
    event.remove(connection, "before_cursor_execute", note)
    assert all(records.held(RULE) for records in loaded.values())
    [(statement, values)] = asked
    explained = connection.exec_driver_sql(f"EXPLAIN {statement}", values)
    return "\n".join(explained.scalars())


def test_an_id_that_every_node_has_is_found_by_the_node(connection: Connection) -> None:
    plan = plan_of_loading(connection, {f"n{number}": [RULE] for number in range(64)})
    assert "Index Scan using actions_agent_id" in plan, plan
