"""Another time for an action that has not started: a new revision, delivered like any other.

Until the node's `definition_applied` settles it the answer is `requested`: an offline node may have
started it, and says `too_late` then. A time that has passed means now. Any change voids an
approval: the new time waits for a person then, and the approved one stays in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import update
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.actions.phases import phase_at_core
from agent.core.actions.rejudging import judge_change
from agent.core.actions.resolving import require_in_service
from agent.core.actions.terms import Asker, Terms
from agent.core.approvals.editing import edit
from agent.core.nodes.selection import facts_of
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions
from agent.domain.definition import Definition, Owner
from agent.domain.errors import Fault, InvalidDocument, Refused
from agent.domain.instants import format_instant, maybe_format
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.phase import ENDED
from agent.wire import fields as f
from agent.wire.definition import decode_definition
from agent.wire.fields import Field, read_closed
from agent.wire.strict_json import encode_text

_BODY = {
    "from_date": Field(f.instant, required=True),
    "to_date": Field(f.instant),
    "reason": Field(f.text(1024)),
    "approve": Field(f.boolean),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reschedule:
    """What was asked. Without a `to_date` the window's end stays where it is."""

    from_date: datetime
    to_date: datetime | None = None
    reason: str | None = None
    approve: bool = False


def read_reschedule(document: Any) -> Reschedule:
    """Raises `InvalidDocument` with every fault."""
    return Reschedule(**read_closed(document, _BODY))


def reschedule(
    connection: Connection,
    occasion: Occasion,
    row: AnyRow,
    asked: Reschedule,
    terms: Terms,
    asker: Asker,
) -> bool:
    """Give the action of this row its new time; whether that is in force now, not waiting.

    The caller holds the lock of the node and has read the row under it. Raises `Refused` (it has
    started or ended, the role …) and `InvalidDocument`; then nothing changed.
    """
    require_changeable(row, occasion.now)
    require_in_service(connection, row.agent_id)
    if asked.approve and not asker.may_approve:
        raise Refused(
            "forbidden",
            f"approve: true needs the role approver, which {asker.name!r} does not have",
        )
    definition = moved(decode_definition(msgspec.json.decode(row.definition)), asked, occasion)
    facts = facts_of(connection, [row.agent_id])
    kinds: Mapping[str, Any] = (facts[0].kinds or {}) if facts else {}
    judged = judge_change(
        definition,
        terms=terms.approvals,
        occasion=occasion,
        asker=asker,
        kind=kinds.get(definition.kind),
        approve=asked.approve,
    )
    in_force = edit(connection, occasion, row, judged, asker.name)
    revision = row.revision + 1
    told = {
        "type": "reschedule",
        "at": format_instant(occasion.now),
        "requested_by": asker.name,
        "why": asked.reason,
        "revision": revision,
        "from_date": maybe_format(definition.from_date),
        "to_date": maybe_format(definition.to_date),
    }
    if in_force:
        query = update(actions).where(actions.c.row == row.row)
        connection.execute(query.values(requested=encode_text(told)))
    body = {**told, "waits": not in_force}
    journal.append(connection, occasion, row.agent_id, journal.RESCHEDULED, row.id, body)
    approved = {"approved": True} if asked.approve else {}
    audit.record(connection, occasion, asker.name, "reschedule", row.id, body | approved)
    return in_force


def require_changeable(row: AnyRow, now: datetime) -> None:
    """Raise `Refused` unless the core may still change this action, as far as it knows. Pure."""
    if row.owner == Owner.NODE.value:
        raise Refused(
            "not_the_cores", f"{row.id!r} is the node's own; change it there, with agentctl"
        )
    if row.status == ExecutionStatus.STARTED.value:
        raise Refused("already_started", f"the action {row.id!r} has started already")
    phase = phase_at_core(row, now)
    if phase in ENDED:
        raise Refused("already_ended", f"the action {row.id!r} has ended already: {phase.value}")
    if row.definition is None:
        raise Refused(
            "definition_unknown",
            f"the definition of {row.id!r} is not known here: it was reported by the node alone",
        )
    if row.recurring_id is not None:
        raise Refused(
            "occurrence", f"{row.id!r} is an occurrence of {row.recurring_id!r}; change that one"
        )


def moved(definition: Definition, asked: Reschedule, occasion: Occasion) -> Definition:
    """The definition with its new window. Raises `InvalidDocument`, `Refused`. Pure."""
    if definition.schedule is not None:
        raise Refused(
            "recurring", f"{definition.id!r} has a schedule; change that: corectl recurring"
        )
    to_date = asked.to_date or definition.to_date
    if to_date is not None and to_date <= max(asked.from_date, occasion.now):
        kept = "" if asked.to_date else "; it stays as it was unless you give another"
        ends = format_instant(to_date)
        late = "is not after from_date" if to_date <= asked.from_date else "has passed already"
        raise InvalidDocument([Fault("to_date", f"{ends} {late}{kept}")])
    return replace(definition, from_date=asked.from_date, to_date=to_date)
