"""What the first version was sent with a schedule is listed by this one."""

from __future__ import annotations

import json
from pathlib import Path

from alembic import command
from alembic.config import Config

from agent.core.recurring.rows import find_rule
from agent.core.store.migrate import MIGRATIONS, migrate
from agent.core.store.sqlite import open_engine

RULE = {"id": "r", "kind": "sleep", "owner": "core", "revision": 1, "node": "n1",
        "should_be_executed": True, "schedule": {"every": "5m"}}  # fmt: skip
GONE = {**RULE, "id": "gone", "should_be_executed": False}
ONCE = {"id": "once", "kind": "sleep", "owner": "core", "revision": 1, "node": "n1"}


def test_rules_of_the_first_version_are_known(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'core.db'}"
    engine = open_engine(url, writes=True)
    with engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        with connection.begin():
            for definition in (RULE, GONE, ONCE):
                connection.exec_driver_sql(
                    "INSERT INTO actions (agent_id, id, owner, created_at, kind, revision,"
                    " definition, wanted, status) VALUES ('n1', ?, 'core', 1, 'sleep', 1, ?, ?,"
                    " 'NULL')",
                    (
                        definition["id"],
                        json.dumps(definition),
                        definition.get("should_be_executed", True),
                    ),
                )
    engine.dispose()
    migrate(url)
    engine = open_engine(url, writes=True)
    with engine.connect() as connection, connection.begin():
        rule = find_rule(connection, "r")
        assert (rule.node, rule.selector, rule.word) == ("n1", None, "active")
        assert rule.schedule.every == "5m"
        assert rule.definition.node is None
        assert find_rule(connection, "gone").word == "deleted"
        found = connection.exec_driver_sql("SELECT count(*) FROM recurring").scalar()
        assert found == 2
    engine.dispose()
