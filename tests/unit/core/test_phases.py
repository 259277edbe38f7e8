"""The phase in Python and its twin in SQL say the same about everything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

from sqlalchemy import insert, select

from agent.core.actions.phases import STATUSES_OF, phase_at_core, phase_is
from agent.core.store.schema import actions, agents, metadata
from agent.core.store.sqlite import open_engine
from agent.domain.definition import ApprovalState
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
        [None, *ApprovalState],
        ["n", "silent"],
    )
    return [
        {
            "agent_id": node, "id": f"a{at}", "owner": "core", "created_at": NOW, "kind": "k",
            "revision": 1, "status": status.value, "reason": reason, "from_date": from_date,
            "wanted": wanted, "lost_at": lost_at, "refused": refused, "revision_applied": applied,
            "approval_state": asked and asked.value,
        }
        for at, (status, reason, from_date, wanted, lost_at, refused, applied, asked, node)
        in enumerate(rows)
    ]  # fmt: skip


def test_both_agree_on_every_combination() -> None:
    engine = open_engine("sqlite:///:memory:", writes=True)
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(insert(actions), combinations())
        connection.execute(
            insert(agents),
            [
                {"id": name, "enrolled_at": NOW, "stream_epoch": "e", "acked_mark": "m",
                 "silent_at": NOW if name == "silent" else None}
                for name in ("n", "silent")
            ],
        )  # fmt: skip
        joined = actions.join(agents, agents.c.id == actions.c.agent_id)
        rows = connection.execute(select(actions, agents.c.silent_at).select_from(joined)).all()
        expected = {row.id: phase_at_core(row, NOW) for row in rows}
        found: dict[str, Phase] = {}
        for phase in Phase:
            query = select(actions.c.id).select_from(joined).where(phase_is(phase, NOW))
            for row in connection.execute(query):
                assert row.id not in found, f"{row.id} has two phases"
                found[row.id] = phase
    assert found == expected
    assert set(expected.values()) == set(STATUSES_OF)
