"""Selection by index agrees with the selector itself, and leaves out what is out of service."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert
from sqlalchemy.engine import Connection

from agent.core.nodes.selection import facts_of, select_nodes
from agent.core.nodes.selector import Operator, Requirement, Selector, parse_selector
from agent.core.store.inline import InlineStore
from agent.core.store.schema import agent_labels, agents
from agent.domain.definition import RiskLevel
from agent.domain.labels import NODE_LABEL
from agent.wire.messages import NodeReport
from agent.wire.strict_json import encode_text

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
NAMES = ["n0", "n1", "n2", "n3", "n4"]
KEYS = st.sampled_from(["a", "b", "c", NODE_LABEL])
WORDS = st.sampled_from(["x", "y", "n1", "n3"])
SOME = st.sets(WORDS, min_size=1).map(lambda some: tuple(sorted(some)))
LISTED = st.builds(Requirement, KEYS, st.sampled_from([Operator.IN, Operator.NOT_IN]), SOME)
BARE = st.builds(Requirement, KEYS, st.sampled_from([Operator.EXISTS, Operator.ABSENT]))
SELECTORS = st.lists(LISTED | BARE, min_size=1, max_size=4).map(Selector.of)
FLEETS = st.fixed_dictionaries(
    {name: st.dictionaries(st.sampled_from(["a", "b", "c"]), WORDS) for name in NAMES}
)

STORE = InlineStore.in_memory()


def agent(name: str, **more: Any) -> dict[str, Any]:
    fresh = {"id": name, "enrolled_at": NOW, "stream_epoch": "e", "acked_mark": "m"}
    return {**fresh, "report": None, "silent_at": None, "decommissioned_at": None} | more


def put(connection: Connection, rows: list[dict[str, Any]], fleet: dict[str, Any]) -> None:
    connection.execute(delete(agents))
    connection.execute(delete(agent_labels))
    connection.execute(insert(agents), rows)
    labels = [
        {"agent_id": name, "key": key, "value": value}
        for name, held in fleet.items()
        for key, value in held.items()
    ]
    if labels:
        connection.execute(insert(agent_labels), labels)


@settings(deadline=None)
@given(FLEETS, SELECTORS)
def test_the_index_finds_whom_the_selector_means(
    fleet: dict[str, dict[str, str]], selector: Selector
) -> None:
    asyncio.run(STORE.write(lambda c: put(c, [agent(name) for name in NAMES], fleet)))
    found = asyncio.run(STORE.read(lambda c: select_nodes(c, selector, 10)))
    meant = [n for n in NAMES if selector.matches({**fleet[n], NODE_LABEL: n})]
    assert found == meant


def test_pages_go_on_by_name_and_leave_out_what_is_out_of_service() -> None:
    rows = [agent(n, decommissioned_at=NOW if n == "n1" else None) for n in NAMES]
    asyncio.run(STORE.write(lambda c: put(c, rows, {})))
    everything = parse_selector("node")
    assert asyncio.run(STORE.read(lambda c: select_nodes(c, everything, 2))) == ["n0", "n2"]
    assert asyncio.run(STORE.read(lambda c: select_nodes(c, everything, 9, "n2"))) == ["n3", "n4"]
    facts = asyncio.run(STORE.read(lambda c: facts_of(c, ["n4", "n1", "gone", "n0"])))
    assert [one.id for one in facts] == ["n4", "n0"]


def test_facts_are_what_the_node_reported_and_how_it_stands() -> None:
    schema = {"type": "object"}
    report = NodeReport(
        version="1.2",
        host="box",
        features=["retry"],
        catalogue=[
            {"kind": "ok", "risk_level": "safe", "payload_schema": schema, "faults": []},
            {"kind": "bad", "risk_level": "odd", "payload_schema": 7, "faults": ["no script"]},
            {"nothing": "readable"},
        ],
    )
    rows = [agent("n0", report=encode_text(report), silent_at=NOW), agent("n1")]
    asyncio.run(STORE.write(lambda c: put(c, rows, {"n0": {"a": "x"}})))
    told, fresh = asyncio.run(STORE.read(lambda c: facts_of(c, ["n0", "n1"])))
    assert (told.version, told.host, told.is_silent) == ("1.2", "box", True)
    assert told.labels == {"a": "x", "node": "n0"}
    assert told.features == {"retry"}
    assert told.kinds is not None
    assert set(told.kinds) == {"ok", "bad"}
    assert told.kinds["ok"].risk_level is RiskLevel.SAFE
    assert told.kinds["ok"].payload_schema == schema
    assert (told.kinds["bad"].risk_level, told.kinds["bad"].faults) == (None, ("no script",))
    assert fresh.kinds is None
    assert fresh.labels == {"node": "n1"}
