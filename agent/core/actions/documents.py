"""An action, an event and a page of either as the operator API shows them. Rows in, JSON out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from agent.core.actions.phases import phase_at_core
from agent.core.actions.standing import phase_standing
from agent.core.store.port import AnyRow
from agent.domain.instants import format_instant, maybe_format

_decode = msgspec.json.Decoder().decode

NO_EXECUTION: Mapping[str, Any] = {
    "execution_status": "NULL",
    "reason": None,
    "attempt": 0,
    "started_at": None,
    "ended_at": None,
    "exit_code": None,
    "signal": None,
    "error": None,
    "verdict": None,
    "output": None,
    "missed": None,
}
_LEFT_OUT_OF_LISTS = ("payload", "metadata", "output", "rollback_reference")


def execution_document(row: AnyRow) -> dict[str, Any]:
    """The node's half: always all members."""
    return dict(NO_EXECUTION) | (_decode(row.execution) if row.execution else {})


def action_document(
    row: AnyRow, now: datetime, standing: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Definition, execution and what the core knows besides, on one level.

    The row is one of `actions` joined with `acked_seq` of its agent; `standing` is how a recurring
    one was reported to stand.
    """
    document: dict[str, Any] = _decode(row.definition) if row.definition else {}
    document |= execution_document(row)
    document |= {
        "id": row.id,
        "node": row.agent_id,
        "owner": row.owner,
        "kind": row.kind or None,
        "phase": phase_standing(phase_at_core(row, now), standing).value,
        "revision": row.revision,
        "revision_applied": row.revision_applied,
        "delivered": _delivered(row),
        "requested": _decode(row.requested) if row.requested else None,
        "refused": _decode(row.refused) if row.refused else None,
        "lost_at": maybe_format(row.lost_at),
        "lost_reason": row.lost_reason,
        "created_at": document.get("created_at") or format_instant(row.created_at),
    }
    if document.get("schedule") is not None:
        document["recurring"] = standing  # null until its node has told of it
    return document


def action_summary(
    row: AnyRow, now: datetime, standing: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The document without its large parts, for lists."""
    document = action_document(row, now, standing)
    for name in _LEFT_OUT_OF_LISTS:
        document.pop(name, None)
    return document


def _delivered(row: AnyRow) -> bool | None:
    """Whether the newest definition is durable on the node; None where it is the node's own."""
    return None if row.delivered_seq is None else bool(row.delivered_seq <= row.acked_seq)


def event_document(row: AnyRow) -> dict[str, Any]:
    """One event of the global stream. `seq` is null where the core itself made it."""
    return {
        **_decode(row.body),
        "id": row.id,
        "node": row.agent_id or None,
        "seq": row.seq,
        "type": row.type,
        "action_id": row.action_id,
        "at": format_instant(row.at),
        "stored_at": format_instant(row.stored_at),
        "by": "core" if row.seq is None else "node",
    }
