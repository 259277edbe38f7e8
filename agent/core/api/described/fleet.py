"""Nodes as operators see them: what docs/fleet.md tells, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.api.described.shared import (
    ADMIN,
    AMBIGUOUS,
    NEXT,
    NODE,
    NOT_THERE,
    OPERATOR,
    OWNER,
    PAGE_LIMIT,
    VIEWER,
)
from agent.infra.openapi import (
    FLAG,
    ID,
    INSTANT,
    KIND,
    LABELS,
    OBJECT,
    TEXT,
    WHOLE,
    Operation,
    Parameter,
    Schema,
    closed,
    get,
    many,
    maybe,
    post,
    ref,
    shape,
)

_SUMMARY = {
    "id": ID, "version": maybe(TEXT), "host": maybe(TEXT), "labels": LABELS,
    "last_seen_at": maybe(INSTANT), "lease_until": maybe(INSTANT), "silent": FLAG,
    "silent_at": maybe(INSTANT), "skew_ms": maybe(WHOLE), "decommissioned_at": maybe(INSTANT),
    "counts": ref("StatusCounts"), "undelivered": WHOLE, "fenced_count": WHOLE,
    "fenced_at": maybe(INSTANT), "brakes": many(OBJECT), "pause": maybe(OBJECT),
    "freezes": many(ref("NodeFreeze")),
}  # fmt: skip
_NODE = _SUMMARY | {
    "labels_reported": LABELS, "labels_set": LABELS, "api_url": maybe(TEXT),
    "api_token_set": FLAG, "enrolled_at": INSTANT, "instance": maybe(TEXT),
    "instance_at": maybe(INSTANT), "report_at": maybe(INSTANT), "protocol": maybe(WHOLE),
    "features": many(TEXT), "catalogue": many(OBJECT), "clock": OBJECT,
    "progress": many(OBJECT), "event_seq": WHOLE,
}  # fmt: skip
_FREEZE_STATE: Schema = {
    "type": "string",
    "enum": ["requested", "frozen", "lifted_on_node", "unsupported", "unreported"],
}
_SELECTOR: Schema = {"type": "string", "minLength": 1, "maxLength": 4096}
_REASON: Schema = {"type": "string", "minLength": 1, "maxLength": 500}
_FOR_S: Schema = {"type": "number", "minimum": 1, "maximum": 10 * 366 * 86400}
_TTL_S: Schema = {"type": "number", "minimum": 1, "maximum": 30 * 86400}
_GONE = (409, "decommissioned")
_AFTER = Parameter("after", TEXT, "`next` of the page before")

OPERATIONS: tuple[Operation, ...] = (
    get(
        "/v1/agents", "AgentPage", "Nodes by name.", PAGE_LIMIT, _AFTER,
        Parameter("selector", TEXT, "those that it means, as `env=prod,role in (db,web)`"),
        Parameter("decommissioned", FLAG, "those that were taken out of service instead"),
        name="list_agents", tag="agents", role=VIEWER,
    ),
    get(
        "/v1/agents/{agent}", "Agent", "One node, with its catalogue.",
        name="get_agent", tag="agents", role=VIEWER, errors=(NOT_THERE,),
    ),
    Operation(
        method="PATCH", path="/v1/agents/{agent}", answer="Agent", body="AgentEdit",
        body_needed=True, says="Set labels (null takes one back), and where its API is.",
        name="edit_agent", tag="agents", role=ADMIN, errors=(NOT_THERE, _GONE),
    ),
    post(
        "/v1/agents/{agent}/decommission", "Agent",
        "Take a node out of service: its credentials end, what it had not started is withdrawn.",
        name="decommission_agent", tag="agents", role=ADMIN, body="Decommission",
        body_needed=True, errors=(NOT_THERE,),
    ),
    post(
        "/v1/agents/{agent}/nudge", "Nudged",
        "A fresh look: its state is pulled where its API can be reached, else asked for.",
        name="nudge_agent", tag="agents", role=OPERATOR, errors=(NOT_THERE, _GONE),
    ),
    post(
        "/v1/agents/nudge", "NudgedMany", "The same for the nodes of a selector.",
        name="nudge_agents", tag="agents", role=OPERATOR, body="Whom", body_needed=True,
    ),
    post(
        "/v1/actions/{id}/nudge", "NudgedAction", "The same for the node of an action.",
        NODE, OWNER, name="nudge_action", tag="actions", role=OPERATOR,
        errors=(NOT_THERE, AMBIGUOUS, _GONE),
    ),
    get(
        "/v1/agents/freezes", "Freezes", "The freezes that hold, oldest first.",
        Parameter("over", FLAG, "the latest of those that are over instead"),
        name="list_freezes", tag="agents", role=VIEWER,
    ),
    post(
        "/v1/agents/freeze", "Freeze",
        "Nothing starts on these nodes from now on; what runs goes on.",
        name="freeze_agents", tag="agents", role=OPERATOR, status=201, body="NewFreeze",
        body_needed=True, errors=((409, "too_many"),),
    ),
    post(
        "/v1/agents/thaw", "Freezes", "The end of a freeze, by id, or by the same selector.",
        name="thaw_agents", tag="agents", role=OPERATOR, body="Thaw", body_needed=True,
        errors=(NOT_THERE,),
    ),
    get(
        "/v1/enrollment-tokens", "EnrollmentTokens", "What tokens are for; never themselves.",
        PAGE_LIMIT, _AFTER, name="list_enrollment_tokens", tag="agents", role=ADMIN,
    ),
    post(
        "/v1/enrollment-tokens", "EnrollmentToken", "A single-use token, shown this once.",
        name="create_enrollment_token", tag="agents", role=ADMIN, status=201,
        body="NewEnrollmentToken", errors=((409, "too_many"),),
    ),
    Operation(
        method="DELETE", path="/v1/enrollment-tokens/{token}", answer="EnrollmentTokenShown",
        says="It brings nobody in any more.", name="revoke_enrollment_token", tag="agents",
        role=ADMIN, errors=(NOT_THERE,),
    ),
)  # fmt: skip

_NUDGED = {"node": ID, "outcome": ref("NudgeOutcome"), "actions": WHOLE, "requested": TEXT,
           "request_id": ID, "why": maybe(TEXT)}  # fmt: skip
_NUDGED_MAYBE = ("actions", "requested", "request_id", "why")

SCHEMAS: Mapping[str, Schema] = {
    "StatusCounts": {"type": "object", "additionalProperties": WHOLE},
    "AgentSummary": shape(_SUMMARY),
    "AgentPage": shape({"agents": many(ref("AgentSummary")), "next": NEXT}),
    "Agent": shape(_NODE),
    "AgentEdit": closed(
        {
            "labels": {"type": "object", "additionalProperties": maybe(TEXT)},
            "api_url": maybe(TEXT), "api_token": maybe(TEXT),
        },
        "labels", "api_url", "api_token",
    ) | {"minProperties": 1},
    "Decommission": closed({"reason": _REASON}),
    "NudgeOutcome": {"type": "string", "enum": ["pulled", "requested"]},
    "Nudged": shape(_NUDGED, *_NUDGED_MAYBE),
    "NudgedAction": shape({"action_id": ID, **_NUDGED}, *_NUDGED_MAYBE),
    "NudgedMany": shape(
        {"selector": TEXT, "pulled": WHOLE, "requested": WHOLE, "nodes": many(ref("Nudged"))}
    ),
    "Whom": closed({"selector": _SELECTOR, "node": ID}, "selector", "node"),
    "NewFreeze": closed(
        {"selector": _SELECTOR, "node": ID, "kind": KIND, "reason": _REASON, "until": INSTANT,
         "for_s": _FOR_S},
        "selector", "node", "kind", "until", "for_s",
    ),
    "Thaw": closed(
        {"id": ID, "selector": _SELECTOR, "node": ID}, "id", "selector", "node"
    ),
    "FreezeState": _FREEZE_STATE,
    "NodeFreeze": shape(
        {"id": ID, "state": ref("FreezeState"), "kind": maybe(KIND), "reason": TEXT, "by": TEXT,
         "expires_at": maybe(INSTANT)}
    ),
    "Freeze": shape(
        {
            "id": ID, "selector": TEXT, "kind": maybe(KIND), "reason": TEXT, "by": TEXT,
            "created_at": INSTANT, "expires_at": maybe(INSTANT), "lifted_at": maybe(INSTANT),
            "lifted_by": maybe(TEXT), "active": FLAG, "nodes": WHOLE,
            "states": {"type": "object", "additionalProperties": WHOLE},
            "not_frozen": many(shape({"node": ID, "state": ref("FreezeState")})),
        }
    ),
    "Freezes": shape({"freezes": many(ref("Freeze"))}),
    "NewEnrollmentToken": closed({"node": ID, "ttl_s": _TTL_S}, "node", "ttl_s"),
    "EnrollmentToken": shape({"token": TEXT, "node": maybe(ID), "expires_at": INSTANT}),
    "EnrollmentTokenShown": shape(
        {
            "id": TEXT, "node": maybe(ID), "state": {"enum": ["open", "used", "expired"]},
            "created_at": INSTANT, "expires_at": INSTANT, "used_at": maybe(INSTANT),
            "used_for": maybe(ID),
        }
    ),
    "EnrollmentTokens": shape({"tokens": many(ref("EnrollmentTokenShown")), "next": NEXT}),
}  # fmt: skip
