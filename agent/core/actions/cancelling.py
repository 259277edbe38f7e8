"""Cancelling: a change of the definition for the core's own, a request for a node's own.

Refused (409) where the core knows that it is too late; where it does not know (the node may have
started it since), the answer is `requested`, and the node's `definition_applied` settles it. What
waits for an approval never left the core, and is over at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import bindparam, update
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.actions.phases import was_never_taken
from agent.core.actions.placing import deliver_all
from agent.core.approvals import requests
from agent.core.nodes.stream import enqueue_request
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions
from agent.domain.definition import ApprovalState, Owner
from agent.domain.errors import Refused, shown
from agent.domain.instants import format_instant
from agent.domain.lifecycle import ExecutionStatus, is_final
from agent.wire import fields as f
from agent.wire.fields import Field, read_closed
from agent.wire.strict_json import encode_text

REFUSE, STOP = "refuse", "stop"
LOOKED_UP_SINGLY = 20  # beyond, one query for all open questions costs less than one for each
_NEVER_SENT = frozenset(
    {ApprovalState.PENDING.value, ApprovalState.REJECTED.value, ApprovalState.EXPIRED.value}
)


def _if_started(value: Any) -> str:
    if value in (REFUSE, STOP):
        return str(value)
    raise ValueError(f"{shown(value)} is not one of {REFUSE}, {STOP}")


_BODY = {"reason": Field(f.text(1024)), "if_started": Field(_if_started)}


@dataclass(frozen=True, slots=True)
class Cancel:
    """What was asked."""

    by: str
    reason: str | None = None
    if_started: str = REFUSE


def read_cancel(document: Any, by: str) -> Cancel:
    """Raises `InvalidDocument` with every fault."""
    return Cancel(by=by, **read_closed(document, _BODY))


class Way(StrEnum):
    """How an action is cancelled."""

    CALL_OFF = "call_off"  # it waits for an approval
    WITHDRAW = "withdraw"
    ASK_NODE = "ask_node"  # it is the node's own
    NOTHING = "nothing"  # it was asked for already


def decide_cancel(row: AnyRow, asked: Cancel) -> Way:
    """How the action of this row is cancelled. Raises `Refused` where it cannot be. Pure."""
    status = ExecutionStatus(row.status)
    if is_final(status) or row.approval_state in _NEVER_SENT - {ApprovalState.PENDING.value}:
        how = status.value if is_final(status) else row.approval_state
        raise Refused("already_ended", f"the action {row.id!r} has ended already: {how}")
    if was_never_taken(row) and not _recurs(row):
        raise Refused("already_ended", f"the node refused {row.id!r}, and does not have it")
    if status is ExecutionStatus.STARTED and asked.if_started != STOP:
        raise Refused(
            "already_started",
            f"the action {row.id!r} has started already; to stop it send if_started: stop",
        )
    if row.owner == Owner.NODE.value:
        return Way.ASK_NODE if row.requested is None else Way.NOTHING
    if row.definition is None:
        raise Refused(
            "definition_unknown",
            f"the definition of {row.id!r} is not known here (it was reported by the node alone); "
            f"cancel it there: agentctl cancel {row.id}",
        )
    if not row.wanted:
        return Way.NOTHING
    return Way.CALL_OFF if row.approval_state in _NEVER_SENT else Way.WITHDRAW


def _recurs(row: AnyRow) -> bool:
    """What its node could not take now may be mended there: it is wanted until it is deleted."""
    return row.definition is not None and "schedule" in msgspec.json.decode(row.definition)


def cancel(connection: Connection, occasion: Occasion, row: AnyRow, asked: Cancel) -> Way:
    """Cancel the action of this row. Raises `Refused`; then nothing changed."""
    way = decide_cancel(row, asked)
    cancel_all(connection, occasion, [(row, way)], asked)
    return way


def cancel_all(
    connection: Connection,
    occasion: Occasion,
    decided: Sequence[tuple[AnyRow, Way]],
    asked: Cancel,
) -> None:
    """Cancel each in its way. The caller holds the locks of the nodes and writes the audit line."""
    withdrawn = [row for row, way in decided if way in (Way.WITHDRAW, Way.CALL_OFF)]
    _withdraw(connection, occasion, withdrawn, asked)
    # Delivered even if nothing was acknowledged yet: an answer with it may be on its way.
    deliver_all(connection, occasion, [row for row, way in decided if way is Way.WITHDRAW])
    for row, way in decided:
        if way is Way.ASK_NODE:
            _ask_the_node(connection, occasion, row, asked)


_WITHDRAW = (
    update(actions)
    .where(actions.c.row == bindparam("b_row"))
    .values(
        wanted=False,
        revision=bindparam("b_revision"),
        definition=bindparam("b_definition"),
        requested=bindparam("b_requested"),
        ended_at=bindparam("b_ended_at"),
    )
)


def _withdraw(
    connection: Connection, occasion: Occasion, rows: Sequence[AnyRow], asked: Cancel
) -> None:
    if not rows:
        return
    changes, notes = [], []
    for row in rows:
        revision = row.revision + 1
        definition = msgspec.json.decode(row.definition)
        definition |= {"revision": revision, "should_be_executed": False}
        requested = _requested(occasion, asked, "cancel") | {"revision": revision}
        is_over = row.approval_state in _NEVER_SENT
        changes.append(
            {
                "b_row": row.row,
                "b_revision": revision,
                "b_definition": encode_text(definition),
                "b_requested": None if is_over else encode_text(requested),
                "b_ended_at": occasion.now if is_over else None,
            }
        )
        notes.append(
            journal.row_of(occasion, row.agent_id, journal.CANCEL_REQUESTED, row.id, requested)
        )
    connection.execute(_WITHDRAW, changes)
    _close_questions(connection, occasion, rows, asked)
    journal.store(connection, notes)


def _close_questions(
    connection: Connection, occasion: Occasion, rows: Sequence[AnyRow], asked: Cancel
) -> None:
    """What is open about them: an edit may wait also for one that needed no approval."""
    pairs = {(row.agent_id, row.id) for row in rows}
    if len(pairs) > LOOKED_UP_SINGLY:
        requests.withdraw_all(connection, occasion, pairs, by=asked.by, reason=asked.reason)
        return
    for agent_id, action_id in sorted(pairs):
        requests.withdraw(
            connection, occasion, agent_id, action_id, by=asked.by, reason=asked.reason
        )


def _ask_the_node(connection: Connection, occasion: Occasion, row: AnyRow, asked: Cancel) -> None:
    request_id = enqueue_request(
        connection,
        occasion,
        row.agent_id,
        "cancel_local",
        action_id=row.id,
        by=asked.by,
        reason=asked.reason,
    )
    requested = _requested(occasion, asked, "cancel_local") | {"request_id": request_id}
    connection.execute(
        update(actions).where(actions.c.row == row.row).values(requested=encode_text(requested))
    )
    journal.append(connection, occasion, row.agent_id, journal.CANCEL_REQUESTED, row.id, requested)


def _requested(occasion: Occasion, asked: Cancel, kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "at": format_instant(occasion.now),
        "requested_by": asked.by,
        "why": asked.reason,
        "if_started": asked.if_started,
    }
