"""What both daemons show of an action, as JSON Schema: a definition, an execution, their parts.

The members are tables, so that each API adds its own beside them; the parts are named schemas, so
that a generated client has one class or enumeration for each.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.domain.definition import ApprovalState, OnRestart, Owner, Requester, RiskLevel
from agent.domain.instants import SPAN_S_MAX
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.phase import Phase
from agent.domain.schedule.spec import CatchUpMode, CountFrom, Overlap
from agent.infra.openapi import (
    FLAG,
    ID,
    INSTANT,
    KIND,
    LABELS,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Schema,
    between,
    many,
    maybe,
    ref,
    shape,
    words,
)
from agent.wire.definition import REVISION_MAX, TIMEOUT_S_MAX

_SPAN = between(0, SPAN_S_MAX)
_RETRY = {
    "max_attempts": between(1, 1000, "integer"), "delay_s": _SPAN, "backoff": between(1, 100),
    "max_delay_s": _SPAN,
}  # fmt: skip
_APPROVAL = {
    "state": ref("ApprovalState"), "by": TEXT, "at": INSTANT, "reason": TEXT,
    "expires_at": INSTANT, "digest": TEXT,
}  # fmt: skip
_CATCH_UP = {"mode": ref("CatchUpMode"), "max_age_s": NUMBER, "max_count": WHOLE}
_SCHEDULE = {
    "cron": TEXT, "every": TEXT, "at": TEXT, "date": INSTANT, "after": TEXT, "timezone": TEXT,
    "duration_s": NUMBER, "jitter_s": NUMBER, "delay_s": NUMBER, "ends_at": INSTANT,
    "max_runs": WHOLE, "overlap": ref("Overlap"), "count_from": ref("CountFrom"),
    "catch_up": {"anyOf": [ref("CatchUpMode"), ref("CatchUp")]},
    "paused": FLAG, "paused_reason": TEXT,
}  # fmt: skip

PARTS: Mapping[str, Schema] = {
    "ExecutionStatus": words(ExecutionStatus),
    "Phase": words(Phase),
    "Owner": words(Owner),
    "Requester": words(Requester),
    "RiskLevel": words(RiskLevel),
    "OnRestart": words(OnRestart),
    "ApprovalState": words(ApprovalState),
    "Overlap": words(Overlap),
    "CountFrom": words(CountFrom),
    "CatchUpMode": words(CatchUpMode),
    "CatchUp": shape(_CATCH_UP, "max_age_s", "max_count"),
    "Retry": shape(_RETRY, *_RETRY),
    "Approval": shape(_APPROVAL, *(name for name in _APPROVAL if name != "state")),
    "Schedule": shape(_SCHEDULE, *_SCHEDULE),
    "Fault": shape({"path": TEXT, "message": TEXT}),
    "Error": shape(
        {
            "error": TEXT, "message": TEXT, "faults": many(ref("Fault")),
            "expected": WHOLE, "acked": WHOLE,
        },
        "faults", "expected", "acked",
    ),
}  # fmt: skip
"""What the tables below and every error refer to."""

DEFINITION: Mapping[str, Schema] = {
    "id": ID, "kind": KIND, "owner": ref("Owner"),
    "revision": between(1, REVISION_MAX, "integer"), "payload": OBJECT, "metadata": OBJECT,
    "labels": LABELS, "from_date": INSTANT, "to_date": INSTANT,
    "should_be_executed": FLAG, "app_names": many(TEXT), "timeout_s": between(0.001, TIMEOUT_S_MAX),
    "grace_s": between(0, 86400),
    "retry": ref("Retry"), "on_restart": ref("OnRestart"),
    "start_deadline_s": between(0.001, SPAN_S_MAX),
    "dry_run": FLAG, "requester": ref("Requester"), "approval": ref("Approval"),
    "created_at": {"type": ["string", "number"]}, "proposed_by": TEXT, "correlation_id": TEXT,
    "node": TEXT, "service": TEXT, "risk_level": ref("RiskLevel"), "confidence": between(0, 1),
    "approval_required": FLAG, "autonomous_eligible": FLAG,
    "rollback_reference": {"type": ["string", "object"]}, "retry_of": ID,
    "schedule": {"anyOf": [ref("Schedule"), TEXT]}, "recurring_id": ID, "nominal_at": INSTANT,
    "requires": many(TEXT),
}  # fmt: skip
"""Every field of a definition (docs/protocol.md), as it is written and as it is shown."""

EXECUTION: Mapping[str, Schema] = {
    "execution_status": ref("ExecutionStatus"), "reason": maybe(TEXT), "attempt": WHOLE,
    "started_at": maybe(INSTANT), "ended_at": maybe(INSTANT), "exit_code": maybe(WHOLE),
    "signal": maybe(WHOLE), "error": maybe(TEXT), "verdict": maybe(TEXT),
    "output": maybe(OBJECT), "missed": maybe(OBJECT),
}  # fmt: skip
"""The node's half."""
