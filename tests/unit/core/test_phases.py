"""The phase in Python and its twin in SQL say the same about everything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

from sqlalchemy import insert, select

from agent.core.actions.phases import STATUSES_OF, phase_at_core, phase_is
from agent.core.store.dialect import open_engine
from agent.core.store.schema import actions, metadata
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.phase import Phase

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def combinations() -> list[dict[str, object]]:
    rows = product(
        ExecutionStatus,
        [None, "withdrawn", "cancelled_on_node", "rejected", "expired", "missed", "of tomorrow"],
        [None, NOW - timedelta(seconds=1), NOW, NOW + timedelta(seconds=1)],
        [True, False],
        [None, NOW],
        [None, "{}"],
        [None, 1],
    )
    return [
        {
            "agent_id": "n", "id": f"a{at}", "owner": "core", "created_at": NOW, "kind": "k",
            "revision": 1, "status": status.value, "reason": reason, "from_date": from_date,
            "wanted": wanted, "lost_at": lost_at, "refused": refused, "revision_applied": applied,
        }
        for at, (status, reason, from_date, wanted, lost_at, refused, applied) in enumerate(rows)
    ]  # fmt: skip


def test_both_agree_on_every_combination() -> None:
    engine = open_engine("sqlite:///:memory:", writes=True)
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(insert(actions), combinations())
        rows = connection.execute(select(actions)).all()
        expected = {row.id: phase_at_core(row, NOW) for row in rows}
        found: dict[str, Phase] = {}
        for phase in Phase:
            for row in connection.execute(select(actions.c.id).where(phase_is(phase, NOW))):
                assert row.id not in found, f"{row.id} has two phases"
                found[row.id] = phase
    assert found == expected
    assert set(expected.values()) == set(STATUSES_OF)
