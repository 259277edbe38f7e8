"""The core's own events, in the same table and order as the nodes' (DESIGN §6).

They have no seq: nobody reported them. A random mark gives them identity like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert
from sqlalchemy.engine import Connection

from agent.core.occasion import Occasion
from agent.core.store.schema import events
from agent.wire.strict_json import encode_text

ENROLLED = "enrolled"
INSTANCE_CHANGED = "instance_changed"
STREAM_FORKED = "stream_forked"
EPOCH_CHANGED = "epoch_changed"
DISPATCHED = "dispatched"
CANCEL_REQUESTED = "cancel_requested"
STATE_REQUESTED = "state_requested"
CORRECTED = "corrected"
LOST = "lost"
FOUND = "found"


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
    connection.execute(insert(events), [row_of(occasion, agent_id, kind, action_id, body)])
