"""The core's own events, in the same table and order as the nodes' (DESIGN §6).

They have no seq: nobody reported them. A random mark gives them identity like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from agent.core.occasion import Occasion
from agent.core.store.bulk import insert_all
from agent.core.store.horizon import before_events
from agent.core.store.schema import events
from agent.wire.strict_json import encode_text

ENROLLED = "enrolled"
INSTANCE_CHANGED = "instance_changed"
STREAM_FORKED = "stream_forked"
EPOCH_CHANGED = "epoch_changed"
DISPATCHED = "dispatched"
SUPPRESSED = "suppressed"
CANCEL_REQUESTED = "cancel_requested"
RESCHEDULED = "rescheduled"
STATE_REQUESTED = "state_requested"
STATE_PULLED = "state_pulled"
CORRECTED = "corrected"
LOST = "lost"
FOUND = "found"
RULES_RELOADED = "rules_reloaded"
RULES_REFUSED = "rules_refused"
NODE_SILENT = "node_silent"
NODE_BACK = "node_back"
NODE_FENCED = "node_fenced"
LABELS_CHANGED = "labels_changed"
DECOMMISSIONED = "decommissioned"
FROZEN = "frozen"
THAWED = "thawed"
FREEZE_LIFTED_ON_NODE = "freeze_lifted_on_node"
APPROVAL_REQUESTED = "approval_requested"
APPROVED = "approved"
REJECTED = "rejected"
APPROVAL_EXPIRED = "approval_expired"
REDEFINED = "redefined"
RECURRING_CREATED = "recurring_created"
RECURRING_CHANGED = "recurring_changed"
RECURRING_PAUSED = "recurring_paused"
RECURRING_RESUMED = "recurring_resumed"
RECURRING_DELETED = "recurring_deleted"
BACKFILLED = "backfilled"
WEBHOOK_DISABLED = "webhook_disabled"
WEBHOOK_GAP = "webhook_gap"
ANSWER_REQUESTED = "answer_requested"


def row_of(
    occasion: Occasion,
    agent_id: str,
    kind: str,
    action_id: str | None = None,
    body: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One event of the core as a row."""
    return {
        "agent_id": agent_id,
        "epoch": None,
        "seq": None,
        "mark": occasion.new_mark(),
        "type": kind,
        "action_id": action_id,
        "at": occasion.now,
        "stored_at": occasion.now,
        "body": encode_text(body or {}),
    }


def append(
    connection: Connection,
    occasion: Occasion,
    agent_id: str,
    kind: str,
    action_id: str | None = None,
    body: Mapping[str, Any] | None = None,
) -> None:
    """Write one event of the core."""
    store(connection, [row_of(occasion, agent_id, kind, action_id, body)])


def store(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write events, anybody's: the one place that does, so that readers know what is settled."""
    if rows:
        before_events(connection)
        insert_all(connection, events, rows)
