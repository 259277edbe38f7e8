"""Dispatch and actions: what docs/dispatch.md tells, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.actions.batching import BATCH_MAX
from agent.core.actions.planning import Outcome
from agent.core.actions.submission import DEDUP_KEY_CHARS_MAX, DEDUP_TTL_S_MAX, DEDUP_TTL_S_MIN
from agent.core.api.described.shared import (
    AMBIGUOUS,
    NEXT,
    NODE,
    NOT_THERE,
    OPERATOR,
    OWNER,
    PAGE_AFTER,
    PAGE_LIMIT,
    VIEWER,
    WAIT_S,
)
from agent.infra.definition_schema import DEFINITION
from agent.infra.openapi import (
    FLAG,
    ID,
    INSTANT,
    KIND,
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
    words,
)

_NOT_SENT = ("owner", "revision", "requester", "approval", "recurring_id", "nominal_at")
_NEW = {name: schema for name, schema in DEFINITION.items() if name not in _NOT_SENT} | {
    "action_id": ID,
    "action_type": KIND,
}
_OF_THE_DISPATCH: Mapping[str, Schema] = {
    "selector": {"type": "string", "minLength": 1, "maxLength": 4096},
    "pick": {"type": "string", "enum": ["all", "any"]},
    "dedup_key": {"type": "string", "minLength": 1, "maxLength": DEDUP_KEY_CHARS_MAX},
    "dedup_ttl_s": {
        "type": "number", "minimum": DEDUP_TTL_S_MIN, "maximum": DEDUP_TTL_S_MAX,
    },
    "approve": FLAG,
}  # fmt: skip
_NEW_DISPATCH = {**_NEW, **_OF_THE_DISPATCH}
_OF_A_RETRY = (
    "id", "from_date", "to_date", "payload", "metadata", "timeout_s", "correlation_id",
    "start_deadline_s", "dedup_key", "dedup_ttl_s", "approve",
)  # fmt: skip
_OUTCOME = {
    "outcome": ref("OutcomeName"), "action_id": ID, "scheduled_for": maybe(INSTANT),
    "would_be": ref("OutcomeName"), "response": OBJECT, "rule": TEXT, "reason": TEXT,
    "approval_id": maybe(TEXT), "why": TEXT, "risk_level": maybe(ref("RiskLevel")),
    "expires_at": maybe(INSTANT), "approved_by": maybe(TEXT), "faults": many(ref("Fault")),
    "node": ID,
}  # fmt: skip
_ANSWER = {**_OUTCOME, "correlation_id": maybe(TEXT), "actions": many(ref("NodeOutcome"))}
_ITEM = {**_ANSWER, "status": WHOLE, "error": TEXT, "message": TEXT}
_CALLED_OFF = {
    "action_id": ID, "node": maybe(ID), "phase": ref("Phase"), "outcome": ref("CancelOutcome"),
    "error": TEXT, "message": TEXT,
}  # fmt: skip
_DRY_RUN = Parameter("dry_run", FLAG, "check everything, change nothing")
_REFUSED = (NOT_THERE, (409, "exists"), (409, "decommissioned"), (409, "four_eyes"))
_TOO_LATE = ((409, "already_ended"), (409, "already_started"), (409, "definition_unknown"))
_SINCE: Schema = {"type": "string", "format": "date-time"}

OPERATIONS: tuple[Operation, ...] = (
    post(
        "/v1/dispatch", "Outcome", "An action to a node, to several, or to any of them.",
        _DRY_RUN, WAIT_S, name="dispatch", tag="dispatch", role=OPERATOR, body="NewAction",
        body_needed=True, errors=_REFUSED,
    ),
    post(
        "/v1/dispatch/batch", "BatchOutcome", "Many dispatches, each for itself, in order.",
        _DRY_RUN, name="dispatch_batch", tag="dispatch", role=OPERATOR, body="Batch",
        body_needed=True,
    ),
    get(
        "/v1/actions", "ActionPage", "Actions, newest first.",
        NODE, Parameter("status", ref("ExecutionStatus"), "of this execution status"),
        Parameter("phase", ref("Phase"), "of this phase"), Parameter("kind", TEXT, "of this kind"),
        Parameter("correlation_id", TEXT, "that belong together"),
        Parameter("recurring_id", TEXT, "occurrences of this one"),
        Parameter("retry_of", TEXT, "that repeat this one"),
        Parameter("service", TEXT, "of this service"),
        Parameter("approval", ref("ApprovalState"), "whose approval stands so"),
        Parameter("since", _SINCE, "made then or later"), Parameter("until", _SINCE, "made before"),
        PAGE_LIMIT, PAGE_AFTER, name="list_actions", tag="actions", role=VIEWER,
    ),
    post(
        "/v1/actions/cancel", "CalledOff", "Withdraw everything open with one correlation id.",
        Parameter("correlation_id", TEXT, "what belongs together", needed=True),
        name="cancel_correlated", tag="actions", role=OPERATOR, body="CancelRequest",
        errors=(NOT_THERE,),
    ),
    get(
        "/v1/actions/{id}", "Action", "One action, whole; with `wait`, when it has ended.",
        NODE, OWNER, WAIT_S, name="get_action", tag="actions", role=VIEWER,
        errors=(NOT_THERE, AMBIGUOUS),
    ),
    get(
        "/v1/actions/{id}/history", "History", "What happened to it, as it became known.",
        NODE, OWNER, PAGE_AFTER, PAGE_LIMIT, name="get_history", tag="actions", role=VIEWER,
        errors=(NOT_THERE, AMBIGUOUS),
    ),
    post(
        "/v1/actions/{id}/cancel", "Action", "Withdraw it; 409 once it is known to have started.",
        NODE, OWNER, name="cancel_action", tag="actions", role=OPERATOR, body="CancelRequest",
        errors=(NOT_THERE, AMBIGUOUS, *_TOO_LATE, (409, "recurring")),
    ),
    post(
        "/v1/actions/{id}/reschedule", "Action", "Another time, until it is known to have started.",
        NODE, OWNER, name="reschedule_action", tag="actions", role=OPERATOR,
        body="RescheduleRequest", body_needed=True,
        errors=(
            NOT_THERE, AMBIGUOUS, *_TOO_LATE, (409, "not_the_cores"), (409, "occurrence"),
            (409, "recurring"), (409, "decommissioned"), (409, "four_eyes"),
        ),
    ),
    post(
        "/v1/actions/{id}/retry", "Outcome", "A new action for one that has ended.",
        NODE, OWNER, _DRY_RUN, WAIT_S, name="retry_action", tag="actions", role=OPERATOR,
        body="RetryRequest",
        errors=(
            *_REFUSED, AMBIGUOUS, (409, "not_final"), (409, "recurring"),
            (409, "definition_unknown"),
        ),
    ),
)  # fmt: skip

SCHEMAS: Mapping[str, Schema] = {
    "NewAction": shape(_NEW_DISPATCH, *_NEW_DISPATCH),
    "OutcomeName": words(Outcome),
    "Outcome": shape(_ANSWER, *(name for name in _ANSWER if name != "outcome")),
    "NodeOutcome": shape(_OUTCOME, *(name for name in _OUTCOME if name not in ("outcome", "node"))),
    "Batch": closed(
        {
            "actions": {
                "type": "array", "items": ref("NewAction"), "minItems": 1, "maxItems": BATCH_MAX,
            },
        }
    ),
    "BatchOutcome": shape({"results": many(ref("BatchItem"))}),
    "BatchItem": shape(_ITEM, *(name for name in _ITEM if name != "outcome")),
    "ActionPage": shape({"actions": many(ref("ActionSummary")), "next": NEXT}),
    "History": shape({"id": ID, "node": TEXT, "events": many(ref("Event")), "next": NEXT}),
    "CancelRequest": closed(
        {"reason": TEXT, "if_started": ref("IfStarted")}, "reason", "if_started"
    ),
    "IfStarted": {"type": "string", "enum": ["refuse", "stop"]},
    "CalledOff": shape(
        {"correlation_id": TEXT, "actions": many(ref("CalledOffAction")), "more": FLAG}
    ),
    "CalledOffAction": shape(_CALLED_OFF, "error", "message"),
    "CancelOutcome": {"type": "string", "enum": ["requested", "cancelled", "refused"]},
    "RescheduleRequest": closed(
        {"from_date": INSTANT, "to_date": maybe(INSTANT), "reason": maybe(TEXT), "approve": FLAG},
        "to_date", "reason", "approve",
    ),
    "RetryRequest": closed({name: _NEW_DISPATCH[name] for name in _OF_A_RETRY}, *_OF_A_RETRY),
}  # fmt: skip
