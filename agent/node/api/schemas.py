"""The shapes of the local API as JSON Schema (2020-12), by name: the components of its OpenAPI.

Answers are open: a member that a later version adds is no fault of its reader. An integration test
holds every schema against what a running daemon answers.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.domain.lane import Lane
from agent.infra.definition_schema import DEFINITION, EXECUTION, PARTS
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
    many,
    maybe,
    ref,
    shape,
    words,
)
from agent.node.doctor.check import State

_STANDING = {
    "phase": ref("Phase"), "accepted_at": INSTANT, "due_at": maybe(INSTANT), "parallel": FLAG,
    "lane": {"type": "string", "enum": [lane.word for lane in Lane]}, "stopping": maybe(TEXT),
    "progress": maybe(shape({"percent": maybe(NUMBER), "message": maybe(TEXT)})),
    "parked": maybe(TEXT),
}  # fmt: skip
_SUMMARY = {
    "id": ID, "kind": KIND, "phase": ref("Phase"), "execution_status": ref("ExecutionStatus"),
    "reason": maybe(TEXT), "attempt": WHOLE, "owner": maybe(ref("Owner")),
    "due_at": maybe(INSTANT), "from_date": maybe(INSTANT), "to_date": maybe(INSTANT),
    "started_at": maybe(INSTANT), "ended_at": maybe(INSTANT), "exit_code": maybe(WHOLE),
    "error": maybe(TEXT), "accepted_at": INSTANT, "labels": LABELS, "recurring_id": maybe(ID),
}  # fmt: skip
_EVENT = {"seq": WHOLE, "mark": TEXT, "type": TEXT, "at": INSTANT}
_BRAKE = {
    "id": WHOLE, "kind": maybe(KIND), "labels": LABELS, "reason": TEXT, "by": TEXT,
    "created_at": INSTANT, "expires_at": maybe(INSTANT), "freeze": maybe(TEXT),
}  # fmt: skip
_PAUSE = {
    "paused": FLAG, "pause_reason": maybe(TEXT), "paused_by": maybe(TEXT),
    "paused_at": maybe(INSTANT), "draining": FLAG,
}  # fmt: skip
_RUNNING = shape({"id": ID, "kind": KIND, "attempt": WHOLE})
_RECURRING = {
    "id": ID, "kind": KIND, "schedule": ref("Schedule"),
    "state": {"type": "string", "enum": ["active", "paused", "ended"]}, "paused": maybe(TEXT),
    "paused_by": maybe({"type": "string", "enum": ["node", "owner", "both"]}),
    "anchor_at": INSTANT, "since_at": INSTANT,
    "next_at": maybe(INSTANT), "next_nominal_at": maybe(INSTANT),
    "last_nominal_at": maybe(INSTANT), "run_count": WHOLE, "ended_at": maybe(INSTANT),
    "ended_reason": maybe(TEXT), "zone": TEXT, "offset_s": NUMBER, "latest": many(OBJECT),
}  # fmt: skip
_FIRE = {
    "id": ID, "kind": KIND, "nominal_at": maybe(INSTANT), "starts_at": INSTANT,
    "ends_at": maybe(INSTANT), "notes": many(TEXT),
}  # fmt: skip
_CORE = {
    "url": maybe(TEXT), "enrolled": FLAG, "connected": FLAG, "last_pull_at": maybe(INSTANT),
    "outbox": WHOLE, "fenced": FLAG, "polling": FLAG, "problem": maybe(TEXT),
}  # fmt: skip
_STATUS = {
    "agent_id": TEXT, "seq": WHOLE, "daemon": TEXT, "version": TEXT, "pid": maybe(WHOLE),
    "started_at": maybe(INSTANT), "uptime_s": maybe(NUMBER),
    "counts": {"type": "object", "additionalProperties": WHOLE}, "queued": WHOLE,
    "next_due_at": maybe(INSTANT), "recurring": OBJECT, "paused": FLAG,
    "brakes": many(ref("Brake")), "labels": LABELS,
    "refused_definitions": WHOLE, "running": many(_RUNNING), "store_problem": maybe(TEXT),
    "core": shape(_CORE),
    "runner": shape(
        {
            "connected": FLAG, "pid": maybe(WHOLE), "version": maybe(TEXT), "problem": maybe(TEXT),
            "scripts_dir": maybe(TEXT), "containment": maybe(TEXT), "controllers": many(TEXT),
            "survivors": WHOLE,
        }
    ),
}  # fmt: skip
_KIND = {
    "kind": KIND, "description": TEXT, "risk_level": maybe(ref("RiskLevel")), "mode": TEXT,
    "parallel": FLAG, "timeout_s": maybe(NUMBER), "grace_s": maybe(NUMBER),
    "on_restart": ref("OnRestart"), "dry_run": FLAG, "payload_schema": maybe(OBJECT),
    "rollback": maybe(TEXT), "user": maybe(TEXT), "limits": OBJECT,
    "path": TEXT, "digest": TEXT, "faults": many(TEXT),
}  # fmt: skip
_DECISION = {"at": maybe(INSTANT), "what": TEXT, "reason": maybe(TEXT), "evidence": OBJECT}

SCHEMAS: Mapping[str, Schema] = {
    **PARTS,
    "NewDefinition": shape(DEFINITION, *(name for name in DEFINITION if name != "kind")),
    "Definition": shape(
        DEFINITION, *(name for name in DEFINITION if name not in ("id", "kind", "owner"))
    ),
    "Action": shape({**EXECUTION, **_STANDING}, "parked", all_of="Definition"),
    "Summary": shape(_SUMMARY),
    "Actions": shape({"actions": many(ref("Summary")), "next": maybe(TEXT)}),
    "Event": shape(_EVENT),
    "History": shape({"id": ID, "events": many(ref("Event"))}),
    "Why": shape(
        {
            "id": ID, "phase": TEXT, "answer": TEXT, "now": maybe(OBJECT),
            "decisions": many(shape(_DECISION)),
        }
    ),
    "Events": shape({"events": many(ref("Event")), "after": WHOLE, "agent_epoch": TEXT}),
    "State": shape(
        {
            "agent_id": TEXT, "agent_epoch": TEXT, "seq": WHOLE, "actions": many(ref("Action")),
            "next": maybe(TEXT), "cursor": TEXT,
        }
    ),
    "Status": shape(_STATUS),
    "Kinds": shape({"kinds": many(shape(_KIND)), "faults": many(TEXT)}),
    "Sync": shape({"definitions": WHOLE, "requests": WHOLE}),
    "Doctor": shape(
        {
            "checks": many(
                shape(
                    {"name": TEXT, "state": words(State), "found": TEXT, "advice": maybe(TEXT)}
                )
            )
        }
    ),
    "Brake": shape(_BRAKE),
    "Brakes": shape({"brakes": many(ref("Brake"))}),
    "NewBrake": shape(
        {"kind": KIND, "labels": LABELS, "for_s": NUMBER, "until": INSTANT, "reason": TEXT},
        "kind", "labels", "for_s", "until",
    ),
    "Pause": shape({**_PAUSE, "running": many(_RUNNING)}),
    "Drain": shape({**_PAUSE, "running": many(_RUNNING), "drained": FLAG}),
    "Recurring": shape(_RECURRING),
    "RecurringPage": shape({"recurring": many(ref("Recurring")), "next": maybe(TEXT)}),
    "Accepted": {"anyOf": [ref("Recurring"), ref("Action")]},
    "Backfill": shape({"created": many(ID)}),
    "Forecast": shape(
        {
            "from": INSTANT, "until": INSTANT, "zone": TEXT, "paused": FLAG,
            "fires": many(shape(_FIRE)), "truncated": FLAG, "next_at": maybe(INSTANT),
            "gaps": many(shape({"id": ID, "kind": KIND, "at": INSTANT, "note": TEXT})),
        }
    ),
    "Health": shape({"ok": FLAG}),
    "Nothing": {"type": "object", "maxProperties": 0},
    "Reason": shape({"reason": TEXT}, "reason"),
    "DrainRequest": shape({"reason": TEXT, "wait_s": NUMBER}, "reason", "wait_s"),
    "RetryRequest": shape({"approval": ref("Approval")}, "approval"),
    "BackfillRequest": shape({"from": INSTANT, "to": INSTANT}),
    "OpenApi": shape({"openapi": TEXT, "info": OBJECT, "paths": OBJECT, "components": OBJECT}),
}  # fmt: skip
