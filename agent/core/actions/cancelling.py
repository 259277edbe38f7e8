"""Cancelling: a change of the definition for the core's own, a request for a node's own.

Refused (409) where the core knows that it is too late; where it does not know (the node may have
started it since), the answer is `requested`, and the node's `definition_applied` settles it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import update
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.nodes.stream import enqueue_definition, enqueue_request
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions
from agent.domain.definition import Owner
from agent.domain.errors import Refused, shown
from agent.domain.instants import format_instant
from agent.domain.lifecycle import ExecutionStatus, is_final
from agent.wire import fields as f
from agent.wire.fields import Field, read_closed
from agent.wire.strict_json import encode_text

REFUSE, STOP = "refuse", "stop"


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


def cancel(connection: Connection, occasion: Occasion, row: AnyRow, asked: Cancel) -> None:
    """Withdraw the action of this row. Raises `Refused`; then nothing changed."""
    status = ExecutionStatus(row.status)
    if is_final(status):
        raise Refused("already_ended", f"the action {row.id!r} has ended already: {status.value}")
    if status is ExecutionStatus.STARTED and asked.if_started != STOP:
        raise Refused(
            "already_started",
            f"the action {row.id!r} has started already; to stop it send if_started: stop",
        )
    if row.owner == Owner.NODE.value:
        _ask_the_node(connection, occasion, row, asked)
    elif row.definition is None:
        raise Refused(
            "definition_unknown",
            f"the definition of {row.id!r} is not known here (it was reported by the node alone); "
            f"cancel it there: agentctl cancel {row.id}",
        )
    elif row.wanted:
        _withdraw(connection, occasion, row, asked)


def _withdraw(connection: Connection, occasion: Occasion, row: AnyRow, asked: Cancel) -> None:
    revision = row.revision + 1
    definition = msgspec.json.decode(row.definition)
    definition |= {"revision": revision, "should_be_executed": False}
    requested = _requested(occasion, asked, "cancel") | {"revision": revision}
    connection.execute(
        update(actions)
        .where(actions.c.row == row.row)
        .values(
            revision=revision,
            wanted=False,
            definition=encode_text(definition),
            requested=encode_text(requested),
        )
    )
    # Delivered even if nothing was acknowledged yet: an answer with it may be on its way.
    enqueue_definition(connection, occasion, row.agent_id, row.id)
    journal.append(connection, occasion, row.agent_id, journal.CANCEL_REQUESTED, row.id, requested)


def _ask_the_node(connection: Connection, occasion: Occasion, row: AnyRow, asked: Cancel) -> None:
    if row.requested is not None:
        return  # asked already; the node answers by how the action ends
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
