"""Recurring actions: what docs/recurring.md tells of the core, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.api.described.shared import (
    NEXT,
    NODE,
    NOT_THERE,
    OPERATOR,
    PAGE_AFTER,
    PAGE_LIMIT,
    VIEWER,
)
from agent.core.recurring.forecast import FIRES_MAX
from agent.infra.definition_schema import DEFINITION
from agent.infra.openapi import (
    FLAG,
    ID,
    INSTANT,
    KIND,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Operation,
    Parameter,
    Schema,
    closed,
    delete,
    get,
    many,
    maybe,
    post,
    put,
    ref,
    shape,
)

_NOT_SENT = ("owner", "revision", "requester", "approval", "recurring_id", "nominal_at")
_TARGET: Mapping[str, Schema] = {"selector": TEXT, "approve": FLAG}
_NEW = {name: schema for name, schema in DEFINITION.items() if name not in _NOT_SENT} | {
    "action_id": ID, "action_type": KIND, **_TARGET,
}  # fmt: skip
_STATES = ["active", "paused", "pending_approval", "rejected", "expired", "deleted"]
_STATE: Schema = {"type": "string", "enum": _STATES}
_NODES = closed({"count": WHOLE, "counted_all": FLAG})
_RULE: Mapping[str, Schema] = {
    **{name: schema for name, schema in DEFINITION.items() if name != "node"},
    "node": maybe(TEXT), "selector": maybe(TEXT), "state": _STATE, "paused": maybe(TEXT),
    "paused_at": maybe(INSTANT), "backfills": WHOLE, "created_by": TEXT, "updated_at": INSTANT,
    "deleted_at": maybe(INSTANT), "nodes": _NODES, "next_at": maybe(INSTANT),
}  # fmt: skip
_ALWAYS = frozenset(
    {"id", "kind", "schedule", "node", "selector", "revision", "state", "paused", "paused_at"}
    | {"backfills", "created_by", "updated_at", "deleted_at", "nodes", "next_at"}
)
_ON = {
    "node": TEXT, "state": maybe(TEXT), "paused": maybe(TEXT), "paused_by": maybe(TEXT),
    "next_at": maybe(INSTANT), "next_nominal_at": maybe(INSTANT),
    "last_nominal_at": maybe(INSTANT), "run_count": maybe(WHOLE), "ended_at": maybe(INSTANT),
    "ended_reason": maybe(TEXT), "parked": maybe(TEXT), "zone": maybe(TEXT),
    "offset_s": maybe(NUMBER), "reported_at": maybe(INSTANT), "revision": WHOLE,
    "revision_applied": maybe(WHOLE), "delivered": FLAG, "wanted": FLAG, "refused": maybe(OBJECT),
    "lost_at": maybe(INSTANT), "silent": FLAG, "last": maybe(OBJECT),
}  # fmt: skip
_QUESTION = {
    "approval_id": TEXT, "why": TEXT, "risk_level": maybe(ref("RiskLevel")), "is_edit": FLAG,
    "requested_by": TEXT, "expires_at": maybe(INSTANT),
}  # fmt: skip
_WHOLE_RULE = {
    **_RULE, "question": maybe(shape(_QUESTION)), "on": many(ref("RecurringOn")), "next": NEXT,
}  # fmt: skip
_MADE = {
    **_WHOLE_RULE, "outcome": TEXT, "actions": many(OBJECT), "approval_id": maybe(TEXT),
    "why": TEXT, "risk_level": maybe(ref("RiskLevel")), "expires_at": maybe(INSTANT),
    "approved_by": maybe(TEXT),
}  # fmt: skip
_FIRE = {
    "id": ID, "node": TEXT, "kind": KIND, "nominal_at": INSTANT, "starts_at": INSTANT,
    "ends_at": maybe(INSTANT), "zone": TEXT, "notes": many(TEXT),
}  # fmt: skip
_FORECAST = {
    "from": INSTANT, "until": INSTANT, "fires": many(shape(_FIRE)), "truncated": FLAG,
    "peaks": many(shape({"at": INSTANT, "starts": WHOLE})), "counted_all": FLAG,
    "all_nodes": FLAG, "next_at": maybe(INSTANT),
}  # fmt: skip
_BY_ID = Parameter("after", TEXT, "`next` of the page before")
_LOOK = (
    Parameter("until", {"type": "string", "format": "date-time"}, "so far; default a day"),
    NODE,
    Parameter("selector", TEXT, "of the nodes that match"),
    Parameter("limit", {"type": "integer", "minimum": 1, "maximum": FIRES_MAX}, "how many at most"),
)
_REFUSED = (
    NOT_THERE, (409, "exists"), (409, "decommissioned"), (409, "four_eyes"), (409, "suppressed"),
)  # fmt: skip
_DELETED = (409, "deleted")
_BY_HAND = (
    NOT_THERE, _DELETED, (409, "not_approved"), (409, "unsupported"), (409, "too_many"),
)  # fmt: skip


def _some(members: Mapping[str, Schema], *always: str) -> Schema:
    """An object of which those named are always there."""
    return shape(members, *(name for name in members if name not in always))


OPERATIONS: tuple[Operation, ...] = (
    get(
        "/v1/recurring", "CoreRecurringPage", "Recurring actions of the core, by id.",
        Parameter("node", TEXT, "that this node has"), Parameter("deleted", FLAG, "those as well"),
        PAGE_LIMIT, _BY_ID, name="list_recurring", tag="recurring", role=VIEWER,
    ),
    post(
        "/v1/recurring", "CoreRecurringMade", "A definition with a schedule, for a node or many.",
        name="create_recurring", tag="recurring", role=OPERATOR, body="NewRecurring",
        body_needed=True, status=201, errors=(*_REFUSED, (409, "too_many")),
    ),
    get(
        "/v1/recurring/{id}", "CoreRecurring", "One, with how it stands on its nodes, a page.",
        PAGE_LIMIT, _BY_ID, name="get_recurring", tag="recurring", role=VIEWER,
        errors=(NOT_THERE,),
    ),
    put(
        "/v1/recurring/{id}", "CoreRecurringMade", "The whole new definition; for later instants.",
        name="update_recurring", tag="recurring", role=OPERATOR, body="EditedRecurring",
        body_needed=True, errors=(*_REFUSED, _DELETED, (409, "conflict")),
    ),
    delete(
        "/v1/recurring/{id}", "CoreRecurring", "Withdraw it everywhere; its history stays.",
        name="delete_recurring", tag="recurring", role=OPERATOR, errors=(NOT_THERE,),
    ),
    post(
        "/v1/recurring/{id}/pause", "CoreRecurring", "Plan nothing more of it, on any node.",
        name="pause_recurring", tag="recurring", role=OPERATOR, body="PauseRecurring",
        errors=(NOT_THERE, _DELETED, (409, "unsupported")),
    ),
    post(
        "/v1/recurring/{id}/resume", "CoreRecurring", "Plan again; the pause was as downtime.",
        name="resume_recurring", tag="recurring", role=OPERATOR, body="EmptyBody",
        errors=(NOT_THERE, _DELETED),
    ),
    post(
        "/v1/recurring/{id}/run", "Occurrences", "One occurrence now, beside the schedule.",
        name="run_recurring", tag="recurring", role=OPERATOR, body="RunRecurring", status=201,
        errors=_BY_HAND,
    ),
    post(
        "/v1/recurring/{id}/backfill", "Occurrences", "Its instants of [from, to) once more.",
        name="backfill_recurring", tag="recurring", role=OPERATOR, body="BackfillRecurring",
        body_needed=True, status=201, errors=_BY_HAND,
    ),
    get(
        "/v1/recurring/{id}/history", "ActionPage", "Its occurrences, newest first.",
        NODE, PAGE_LIMIT, PAGE_AFTER, name="get_recurring_history", tag="recurring", role=VIEWER,
        errors=(NOT_THERE,),
    ),
    get(
        "/v1/recurring/{id}/forecast", "CoreForecast", "When it starts, and where.",
        *_LOOK, name="forecast_recurring", tag="recurring", role=VIEWER, errors=(NOT_THERE,),
    ),
    get(
        "/v1/forecast", "CoreForecast", "What starts when in the fleet, and its peaks.",
        *_LOOK, name="forecast", tag="recurring", role=VIEWER,
    ),
)  # fmt: skip

SCHEMAS: Mapping[str, Schema] = {
    "NewRecurring": _some(_NEW, "schedule"),
    "EditedRecurring": _some({**_NEW, "revision": WHOLE}, "schedule"),
    "PauseRecurring": closed({"reason": TEXT}, "reason"),
    "EmptyBody": closed({}),
    "RunRecurring": closed({"node": ID}, "node"),
    "BackfillRecurring": closed({"from": INSTANT, "to": INSTANT, "node": ID}, "node"),
    "Occurrences": shape({"count": WHOLE, "actions": many(shape({"node": TEXT, "action_id": ID}))}),
    "RecurringOn": shape(_ON),
    "CoreRecurring": _some(_WHOLE_RULE, *_ALWAYS, "question", "on", "next"),
    "CoreRecurringMade": _some(_MADE, *_ALWAYS, "question", "on", "next", "outcome", "actions"),
    "CoreRecurringPage": shape({"recurring": many(_some(_RULE, *_ALWAYS)), "next": NEXT}),
    "CoreForecast": shape(_FORECAST),
}
