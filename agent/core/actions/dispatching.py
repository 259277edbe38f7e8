"""A dispatch: a document becomes a definition of the core's, durable before anybody is answered.

The node gets it at once, with its `from_date`; the node's own timer fires it. Rules, approvals and
targets other than one node come between `prepare` and `store` later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.nodes.incoming import definition_text, shown_from
from agent.core.nodes.stream import enqueue_definition
from agent.core.occasion import Occasion
from agent.core.store.schema import actions, agents
from agent.domain.definition import Definition, Owner, Requester
from agent.domain.errors import Fault, InvalidDocument, NotFound, Refused, shown
from agent.domain.instants import format_instant
from agent.domain.lifecycle import ExecutionStatus
from agent.wire.definition import decode_submitted

_OURS: Mapping[str, str] = {
    "owner": "what is dispatched belongs to the core; leave it out",
    "revision": "the core counts revisions; leave it out",
    "requester": "the core records through which door an action came; leave it out",
    "recurring_id": "occurrences are made by the node; leave it out",
    "nominal_at": "occurrences are made by the node; leave it out",
    "approval": "approvals are recorded by the core, not sent with a dispatch",
}


def prepare(document: Any, occasion: Occasion) -> Definition:
    """The definition that a dispatch asks for. Raises `InvalidDocument` with every fault."""
    if not isinstance(document, dict):
        raise InvalidDocument([Fault("", f"a dispatch is an object, not {shown(document)}")])
    faults = [Fault(name, why) for name, why in _OURS.items() if document.get(name) is not None]
    if document.get("should_be_executed") is False:
        faults.append(Fault("should_be_executed", "a dispatch of nothing; use cancel to withdraw"))
    if document.get("node") is None:
        faults.append(Fault("node", "is missing; name the node that is to run it"))
    given = {key: value for key, value in document.items() if key not in _OURS}
    defaults: dict[str, Any] = {"created_at": format_instant(occasion.now)}
    if document.get("id") is None and document.get("action_id") is None:
        defaults["id"] = occasion.new_id()
    try:
        definition = decode_submitted(
            _without_nulls(given),
            owner=Owner.CORE.value,
            requester=Requester.CORE_API.value,
            revision=1,
            **defaults,
        )
    except InvalidDocument as error:
        raise InvalidDocument([*faults, *error.faults]) from None
    if definition.to_date is not None and definition.to_date <= occasion.now:
        faults.append(Fault("to_date", f"{format_instant(definition.to_date)} has passed already"))
    if faults:
        raise InvalidDocument(faults)
    return definition


def _without_nulls(document: Mapping[str, Any]) -> dict[str, Any]:
    """A null says nothing, so that defaults can."""
    return {key: value for key, value in document.items() if value is not None}


def outcome_of(definition: Definition, occasion: Occasion) -> dict[str, Any]:
    """Seed 003's answer. When a recurring action is first due is for its node to say."""
    if definition.schedule is not None:
        return {"outcome": "scheduled", "action_id": definition.id, "scheduled_for": None}
    if definition.from_date is not None and definition.from_date > occasion.now:
        return {
            "outcome": "scheduled",
            "action_id": definition.id,
            "scheduled_for": format_instant(definition.from_date),
        }
    return {"outcome": "queued", "action_id": definition.id}


def require_possible(connection: Connection, definition: Definition) -> None:
    """Raise `NotFound` for an unknown node, `Refused` for an id that is taken."""
    node = definition.node
    if connection.execute(select(agents.c.id).where(agents.c.id == node)).first() is None:
        raise NotFound(f"there is no node {shown(node)}; corectl agents lists them")
    taken = connection.execute(
        select(actions.c.agent_id).where(actions.c.id == definition.id)
    ).first()
    if taken is not None:
        raise Refused(
            "exists",
            f"the id {definition.id!r} is taken by an action on {taken.agent_id!r}; nothing was "
            "changed",
        )


def store(connection: Connection, occasion: Occasion, definition: Definition, by: str) -> None:
    """Write it and put it into the node's stream. Raises as `require_possible`."""
    require_possible(connection, definition)
    assert definition.node is not None, "prepare demands it"
    row = {
        "agent_id": definition.node,
        "id": definition.id,
        "owner": definition.owner.value,
        "created_at": occasion.now,
        "kind": definition.kind,
        "revision": definition.revision,
        "definition": definition_text(definition),
        "from_date": shown_from(definition),
        "wanted": True,
        "status": ExecutionStatus.NULL.value,
    }
    connection.execute(insert(actions), [row])
    enqueue_definition(connection, occasion, definition.node, definition.id)
    body = {"requested_by": by, "kind": definition.kind, "revision": definition.revision}
    journal.append(connection, occasion, definition.node, journal.DISPATCHED, definition.id, body)
