"""Approvals and their links: what docs/approvals.md tells, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.api.described.shared import (
    AMBIGUOUS,
    APPROVER,
    NEXT,
    NODE,
    NOT_THERE,
    OWNER,
    PAGE_AFTER,
    PAGE_LIMIT,
    VIEWER,
)
from agent.core.approvals.link_page import REASON_CHARS_MAX
from agent.core.approvals.links import TTL_S_MAX, TTL_S_MIN
from agent.core.approvals.requests import QuestionState
from agent.infra.openapi import (
    FLAG,
    FORM,
    HTML,
    ID,
    INSTANT,
    KIND,
    NUMBER,
    OBJECT,
    TEXT,
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

_APPROVAL: Mapping[str, Schema] = {
    "id": TEXT, "state": ref("QuestionState"), "action_id": ID, "node": maybe(TEXT),
    "kind": maybe(KIND), "service": maybe(TEXT), "risk": maybe(ref("RiskLevel")), "why": TEXT,
    "rule": maybe(TEXT), "is_edit": FLAG, "four_eyes": FLAG, "digest": TEXT,
    "requested_at": INSTANT, "requested_by": TEXT, "proposed_by": maybe(TEXT),
    "confidence": maybe(NUMBER), "correlation_id": maybe(TEXT), "expires_at": maybe(INSTANT),
    "decided_at": maybe(INSTANT), "decided_by": maybe(TEXT), "reason": maybe(TEXT),
    "definition": ref("Definition"),
}  # fmt: skip
_REASON: Schema = {"type": "string", "maxLength": REASON_CHARS_MAX}
_DECIDING = (
    NOT_THERE, (409, "not_pending"), (409, "changed"), (409, "four_eyes"),
    (409, "already_ended"), (409, "decommissioned"),
)  # fmt: skip
_FOLLOWING = ((403, "forbidden"), NOT_THERE, (409, "not_pending"), (410, "gone"))

OPERATIONS: tuple[Operation, ...] = (
    get(
        "/v1/approvals", "QuestionPage", "What was put to people, newest first.",
        Parameter("state", ref("QuestionState"), "in this state"), NODE,
        Parameter("action_id", TEXT, "about this action"),
        Parameter("correlation_id", TEXT, "about actions with this correlation id"),
        PAGE_LIMIT, PAGE_AFTER, name="list_approvals", tag="approvals", role=VIEWER,
    ),
    get(
        "/v1/approvals/{id}", "Question", "One of them, with all that is asked for.",
        name="get_approval", tag="approvals", role=VIEWER, errors=(NOT_THERE,),
    ),
    post(
        "/v1/approvals/{id}/approve", "Question", "Yes: it goes to its node.",
        name="approve", tag="approvals", role=APPROVER, body="AnswerRequest", errors=_DECIDING,
    ),
    post(
        "/v1/approvals/{id}/reject", "Question", "No: it never goes anywhere.",
        name="reject", tag="approvals", role=APPROVER, body="AnswerRequest", errors=_DECIDING,
    ),
    post(
        "/v1/approvals/{id}/links", "ApprovalLinks",
        "Links that approve and reject without a token; shown this once.",
        name="make_approval_links", tag="approvals", role=APPROVER, status=201, body="LinkRequest",
        errors=(NOT_THERE, (409, "not_pending"), (409, "four_eyes")),
    ),
    post(
        "/v1/actions/{id}/approve", "Action", "Yes, by the action's id.", NODE, OWNER,
        name="approve_action", tag="actions", role=APPROVER, body="AnswerRequest",
        errors=(*_DECIDING, AMBIGUOUS, (409, "recurring")),
    ),
    post(
        "/v1/actions/{id}/reject", "Action", "No, by the action's id.", NODE, OWNER,
        name="reject_action", tag="actions", role=APPROVER, body="AnswerRequest",
        errors=(*_DECIDING, AMBIGUOUS, (409, "recurring")),
    ),
    get(
        "/v1/links/{token}", "Question", "What a link is about; looking decides nothing.",
        name="look_at_link", tag="approvals", open=True, also=(HTML,), errors=_FOLLOWING,
    ),
    post(
        "/v1/links/{token}", "Question", "Decide as the link says.",
        name="follow_link", tag="approvals", open=True, also=(HTML,), body="LinkAnswer",
        body_also=(FORM,),
        errors=(
            *_FOLLOWING, (409, "changed"), (409, "four_eyes"), (409, "already_ended"),
            (409, "decommissioned"),
        ),
    ),
)  # fmt: skip

SCHEMAS: Mapping[str, Schema] = {
    "QuestionState": words(QuestionState),
    "Question": shape({**_APPROVAL, "changes": OBJECT}, "changes"),
    "QuestionPage": shape({"approvals": many(ref("Question")), "next": NEXT}),
    "AnswerRequest": closed(
        {"reason": _REASON, "digest": {"type": "string", "maxLength": 128}}, "reason", "digest"
    ),
    "LinkRequest": closed(
        {
            "ttl_s": {"type": "number", "minimum": TTL_S_MIN, "maximum": TTL_S_MAX},
            "for": {"type": "string", "maxLength": 128},
        },
        "ttl_s",
        "for",
    ),
    "LinkAnswer": closed({"reason": _REASON}, "reason"),
    "ApprovalLinks": shape(
        {
            "approval_id": TEXT,
            "acts_as": TEXT,
            "expires_at": INSTANT,
            "approve": TEXT,
            "reject": TEXT,
        }
    ),
}
