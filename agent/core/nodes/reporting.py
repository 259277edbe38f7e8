"""A node's report into its row, with what follows from it: labels, and the freezes it is under."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Connection

from agent.core.nodes import freeze_reports, freezes
from agent.core.nodes.fresh import FreshReport
from agent.core.nodes.labelling import acceptable, own_labels, relabel
from agent.core.occasion import Occasion
from agent.core.recurring.membership import reconcile_node
from agent.core.store.port import AnyRow
from agent.core.store.schema import agents
from agent.wire.messages import NodeReport

_decode = msgspec.json.Decoder().decode
_STORED = select(agents.c.report).where(agents.c.id == bindparam("b_agent"))
_KEEP = (
    update(agents)
    .where(agents.c.id == bindparam("b_agent"))
    .values(
        report=bindparam("b_text"), report_at=bindparam("b_at"), skew_ms=bindparam("b_skew"),
        last_seen_at=bindparam("b_now"),
    )
)  # fmt: skip


def apply_report(
    connection: Connection,
    occasion: Occasion,
    agent: AnyRow,
    report: NodeReport,
    stored: FreshReport,
) -> bool:
    """Keep it. True if the node is to be woken: it is to be frozen, or thawed."""
    before = connection.execute(_STORED, {"b_agent": agent.id}).scalar()
    kept = {
        "b_agent": agent.id, "b_text": stored.text, "b_at": stored.at, "b_skew": stored.skew_ms,
        "b_now": occasion.now,
    }  # fmt: skip
    connection.execute(_KEEP, kept)
    merged = acceptable(report.labels) | own_labels(agent.own_labels)
    changed = relabel(connection, occasion, agent.id, merged)
    reconcile_node(connection, occasion, agent.id)
    is_told = False
    if changed or _understands_otherwise(before, report):
        is_told = freezes.reconcile(connection, occasion, agent.id)
    # Then: of a node that comes back it may hold already what it is about to be sent.
    freeze_reports.note_held(connection, occasion, agent.id, report)
    return freeze_reports.thaw_strays(connection, occasion, agent.id, report) or is_told


def _understands_otherwise(before: str | None, report: NodeReport) -> bool:
    if before is None:
        return True
    told: Mapping[str, object] = _decode(before)
    return told.get("features") != report.features
