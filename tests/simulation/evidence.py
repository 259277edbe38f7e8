"""What the checker gets: observations, and the rows of both databases as they are on disk.

Plain SQL, no mapping of ours: a mistake in a mapper must not hide itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.observations import Observations
from tests.simulation.plan import Plan

Row = Mapping[str, Any]
RECURS = "coalesce(json_extract(definition, '$.schedule') IS NOT NULL, 0)"
"""Of a row at the core: it is a recurring action, which has no status of its own."""
STAYED_HERE = """(coalesce(approval_state, '') IN ('rejected', 'expired')
   OR (NOT wanted AND delivered_seq IS NULL AND owner = 'core'))"""
"""It ended before its node ever heard of it: refused, or withdrawn. Its status stays NULL."""
FINAL = frozenset({"FINISHED", "FAILED", "WONT_START", "WONT_FINISH"})


@dataclass(frozen=True, slots=True)
class Sample:
    """A look at both sides: (side, action id) → (status, revision); and what is still open."""

    at_s: float
    statuses: Mapping[tuple[str, str], tuple[str, int]]
    open: int
    unsent: int
    approvals: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(node, action id) → how a question about it stands, where there was one."""


@dataclass(frozen=True, slots=True)
class NodeEvidence:
    """A node's own books."""

    actions: Mapping[str, Row]
    events: tuple[Row, ...]
    meta: Mapping[str, str]
    rules: Mapping[str, Row]
    freezes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that can be known of a run."""

    plan: Plan
    seen: Observations
    samples: tuple[Sample, ...]
    nodes: Mapping[str, NodeEvidence]
    core_actions: tuple[Row, ...]
    core_events: tuple[Row, ...]
    core_agents: Mapping[str, Row]
    is_quiet: bool

    def restored(self, *whats: str) -> bool:
        """Whether a database was replaced by an older one."""
        return any(True for _ in self.seen.of(*(whats or ("core_restored", "node_restored"))))


def take_evidence(
    plan: Plan, seen: Observations, samples: list[Sample], core: sqlite3.Connection,
    nodes: Mapping[str, sqlite3.Connection], *, is_quiet: bool,
) -> Evidence:  # fmt: skip
    """Read everything at the end."""
    return Evidence(
        plan=plan,
        seen=seen,
        samples=tuple(samples),
        nodes={name: _node_evidence(connection) for name, connection in nodes.items()},
        core_actions=tuple(_rows(core, "SELECT * FROM actions ORDER BY row")),
        core_events=tuple(
            {**row, "body": json.loads(row["body"])}
            for row in _rows(core, "SELECT * FROM events ORDER BY id")
        ),
        core_agents={row["id"]: row for row in _rows(core, "SELECT * FROM agents")},
        is_quiet=is_quiet,
    )


def _node_evidence(connection: sqlite3.Connection) -> NodeEvidence:
    return NodeEvidence(
        actions={
            row["id"]: {**row, "definition": json.loads(row["definition"])}
            for row in _rows(connection, "SELECT * FROM actions ORDER BY row")
        },
        events=tuple(
            {**row, "body": json.loads(row["body"])}
            for row in _rows(connection, "SELECT * FROM events ORDER BY seq")
        ),
        meta={row["key"]: row["value"] for row in _rows(connection, "SELECT * FROM meta")},
        rules={
            row["id"]: {**row, "definition": json.loads(row["definition"])}
            for row in _rows(connection, "SELECT * FROM recurring")
        },
        freezes=frozenset(
            row["freeze"]
            for row in _rows(connection, "SELECT freeze, expires_at, created_at FROM brakes")
            if row["freeze"] is not None and row["expires_at"] != row["created_at"]
        ),
    )


def take_sample(
    at_s: float, core: sqlite3.Connection, nodes: Mapping[str, sqlite3.Connection]
) -> Sample:
    """Read statuses and revisions of both sides now."""
    statuses: dict[tuple[str, str], tuple[str, int]] = {}
    unsent = open_rows = 0
    for name, connection in nodes.items():
        for row in connection.execute("SELECT id, execution_status, revision FROM actions"):
            statuses[name, row[0]] = (row[1], row[2])
            open_rows += row[1] not in FINAL
        going_on = "SELECT count(*) FROM recurring WHERE ended_at IS NULL"
        open_rows += connection.execute(going_on).fetchone()[0]
        newest = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
        acked = connection.execute("SELECT value FROM meta WHERE key = 'acked_seq'").fetchone()
        unsent += int(newest) - int(acked[0] if acked else 0)
    approvals: dict[tuple[str, str], str] = {}
    query = (
        "SELECT agent_id, id, status, revision, lost_at, refused, owner, approval_state,"
        f" {RECURS}, {STAYED_HERE} FROM actions"
    )
    for agent, id_, status, revision, lost_at, refused, owner, state, *over in core.execute(query):
        statuses[f"core/{agent}/{owner}", id_] = (status, revision)
        open_rows += status not in FINAL and lost_at is None and refused is None and not any(over)
        if state is not None and owner == "core":
            approvals[agent, id_] = state
    for head, acked in core.execute("SELECT head_seq, acked_seq FROM agents").fetchall():
        unsent += head - acked
    return Sample(at_s, statuses, open_rows, unsent, approvals)


def _rows(connection: sqlite3.Connection, query: str) -> list[dict[str, Any]]:
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
