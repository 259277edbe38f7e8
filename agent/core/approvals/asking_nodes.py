"""An answer about an action that a node owns: the node decides, so it is asked to (DESIGN §6)."""

from __future__ import annotations

import msgspec
from sqlalchemy import update
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.approvals.deciding import Answer, require_same
from agent.core.nodes.stream import enqueue_request
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions
from agent.domain.definition import ApprovalState
from agent.domain.errors import Refused
from agent.domain.instants import format_instant
from agent.domain.lifecycle import ExecutionStatus
from agent.wire.canonical import digest_of_document
from agent.wire.strict_json import encode_text

APPROVE, REJECT = "approve_local", "reject_local"


def ask_node(connection: Connection, occasion: Occasion, row: AnyRow, answer: Answer) -> None:
    """Put the request into the node's stream. Raises `Refused`; then nothing changed."""
    waiting = row.approval_state == ApprovalState.PENDING.value
    if row.status != ExecutionStatus.NULL.value or not waiting or row.definition is None:
        raise Refused(
            "not_pending", f"nothing about {row.id!r} waits for approval, as far as its node told"
        )
    if row.requested is not None:
        asked = msgspec.json.decode(row.requested)
        raise Refused(
            "not_pending",
            f"the node was asked already ({asked['type']} by {asked['requested_by']} at "
            f"{asked['at']}) and has not answered yet",
        )
    require_same(digest_of_document(msgspec.json.decode(row.definition)), answer.digest)
    kind = APPROVE if answer.approves else REJECT
    request_id = enqueue_request(
        connection,
        occasion,
        row.agent_id,
        kind,
        action_id=row.id,
        by=answer.by,
        reason=answer.reason,
    )
    requested = {
        "type": kind,
        "at": format_instant(occasion.now),
        "requested_by": answer.by,
        "why": answer.reason,
        "request_id": request_id,
    }
    connection.execute(
        update(actions).where(actions.c.row == row.row).values(requested=encode_text(requested))
    )
    journal.append(connection, occasion, row.agent_id, journal.ANSWER_REQUESTED, row.id, requested)
    detail = {"node": row.agent_id, "why": answer.reason}
    audit.record(connection, occasion, answer.authority, kind, row.id, detail)
