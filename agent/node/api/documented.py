"""What each route of the local API takes and answers: the table that its OpenAPI is made of.

One entry per line of `agent.node.api.routes`; a test holds the two together.
"""

from __future__ import annotations

from agent.domain.lifecycle import ExecutionStatus
from agent.infra.openapi import (
    AFTER,
    AWAY,
    BYTES,
    FLAG,
    INSTANT,
    INVALID,
    LIMIT,
    MISSING,
    PLAIN,
    TEXT,
    WAIT,
    WHOLE,
    Operation,
    Parameter,
    get,
    post,
    words,
)

_STATUS = words(ExecutionStatus)
_VIEW = {"type": "string", "enum": ["all", "queue", "finished"]}
_STREAM = {"type": "string"}

OPERATIONS: tuple[Operation, ...] = (
    get("/v1/status", "Status", "The node at a glance."),
    get("/v1/kinds", "Kinds", "What this node can be asked to do.", errors=(AWAY,)),
    post(
        "/v1/sync", "Sync", "Pull from the core once, now.", errors=((409, "no_core"), AWAY)
    ),
    post("/v1/pause", "Pause", "Start nothing from now on.", body="Reason", errors=(INVALID,)),
    post("/v1/resume", "Pause", "Start what is due.", body="Nothing", errors=(INVALID,)),
    post(
        "/v1/drain", "Drain", "Pause, and wait until nothing runs.",
        body="DrainRequest", errors=(INVALID,),
    ),
    get("/v1/brake", "Brakes", "The brakes that hold now, oldest first."),
    post(
        "/v1/brake", "Brake", "Hold back a kind or labels.",
        body="NewBrake", body_needed=True, status=201, errors=(INVALID, (409, "too_many")),
    ),
    Operation(
        method="DELETE", path="/v1/brake/{id}", answer="Brake", says="Lift a brake.",
        errors=(MISSING,),
    ),
    get(
        "/v1/actions", "Actions", "A page of actions.",
        Parameter("view", _VIEW, "queue: oldest first; finished: newest first"),
        Parameter("status", _STATUS, "of this execution status only"),
        Parameter("kind", TEXT, "of this kind only"),
        Parameter("recurring", TEXT, "occurrences of this recurring action only"),
        Parameter("since", INSTANT, "not before this instant, by the view's own order"),
        Parameter("until", INSTANT, "before this instant"),
        LIMIT, AFTER, errors=(INVALID,),
    ),
    post(
        "/v1/actions", "Accepted", "Accept a definition; with a `schedule`, a recurring action.",
        body="NewDefinition", body_needed=True, status=201,
        errors=(INVALID, (409, "conflict"), (409, "queue_full"), (413, "too_large"), AWAY),
    ),
    get(
        "/v1/actions/{id}", "Action", "Definition and execution of one action.",
        WAIT, errors=(MISSING, INVALID),
    ),
    post(
        "/v1/actions/{id}/cancel", "Accepted", "Withdraw it here; stopped first where it runs.",
        errors=(MISSING, (409, "final")),
    ),
    post(
        "/v1/actions/{id}/retry", "Action", "The same again, as a new action (`retry_of`).",
        body="RetryRequest", status=201,
        errors=(MISSING, INVALID, (409, "not_final"), (409, "queue_full"), AWAY),
    ),
    get(
        "/v1/actions/{id}/history", "History",
        "Every recorded fact, oldest first; also of a recurring action.",
        errors=(MISSING,),
    ),
    get(
        "/v1/actions/{id}/why", "Why",
        "What happened and why, or why not yet; also of a recurring action and of an instant.",
        errors=(MISSING, INVALID),
    ),
    get(
        "/v1/actions/{id}/output", None, "Bytes that the latest attempt wrote.",
        Parameter("stream", _STREAM, "stdout, stderr, or both in their order"),
        Parameter("offset", WHOLE, "of the first byte, as the script wrote it"),
        Parameter("follow", FLAG, "until the action is final"),
        media=BYTES, errors=(MISSING, INVALID, AWAY),
    ),
    get(
        "/v1/recurring", "RecurringPage", "A page of recurring actions, by id.",
        LIMIT, AFTER, errors=(INVALID,),
    ),
    post(
        "/v1/recurring", "Recurring", "Accept a definition with a `schedule`.",
        body="NewDefinition", body_needed=True, status=201,
        errors=(INVALID, (409, "conflict"), (409, "queue_full"), AWAY),
    ),
    get(
        "/v1/recurring/{id}", "Recurring", "One recurring action, with its latest occurrences.",
        errors=(MISSING,),
    ),
    Operation(
        method="PUT", path="/v1/recurring/{id}", answer="Recurring",
        says="Replace its definition; only later instants are affected.",
        body="NewDefinition", body_needed=True,
        errors=(MISSING, INVALID, (409, "conflict"), (409, "final"), AWAY),
    ),
    Operation(
        method="DELETE", path="/v1/recurring/{id}", answer="Recurring",
        says="End it: what waits of it ends too, what runs goes on.", errors=(MISSING,),
    ),
    post(
        "/v1/recurring/{id}/pause", "Recurring", "Plan nothing more until it is resumed.",
        body="Reason", errors=(MISSING, INVALID),
    ),
    post(
        "/v1/recurring/{id}/resume", "Recurring", "Plan again; the pause counts as downtime.",
        errors=(MISSING, (409, "paused_by_owner")),
    ),
    post(
        "/v1/recurring/{id}/run", "Action", "One occurrence now, beside the schedule.",
        status=201, errors=(MISSING, (409, "final"), (409, "too_many")),
    ),
    post(
        "/v1/recurring/{id}/backfill", "Backfill", "Its instants of [from, to) again.",
        body="BackfillRequest", body_needed=True, status=201,
        errors=(MISSING, INVALID, (409, "final"), (409, "too_many")),
    ),
    get(
        "/v1/forecast", "Forecast", "What will start, by the engine's own arithmetic.",
        Parameter("until", INSTANT, "how far to look"),
        Parameter("id", TEXT, "of this action or recurring action only"),
        LIMIT, errors=(INVALID,),
    ),
    get(
        "/v1/events", "Events", "Events behind a cursor, in order, for a backend that pulls.",
        Parameter("after", WHOLE, "the number of the last event that is stored there"),
        Parameter("limit", WHOLE, "how many at most (1000)"),
        WAIT,
        Parameter("ack", FLAG, "whether `after` acknowledges; default: over TCP"),
        errors=(INVALID, (410, "gone")),
    ),
    get(
        "/v1/state", "State", "Every action, in pages; `seq` is where events go on.",
        LIMIT, AFTER, errors=(INVALID,),
    ),
    get("/v1/doctor", "Doctor", "Invariants of the live state, measured now.", errors=(INVALID,)),
    get(
        "/metrics", None, "Prometheus' text format 0.0.4.", media=PLAIN, errors=(INVALID,)
    ),
    get("/openapi.json", "OpenApi", "This document.", errors=(INVALID,)),
    get(
        "/healthz", "Health", "200 while the database can be written and the runner is there.",
        open=True, errors=((503, ""),),
    ),
)  # fmt: skip


def known_parameters(method: str, path: str) -> frozenset[str]:
    """What may stand in the query string of a route."""
    found = next((o for o in OPERATIONS if (o.method, o.path) == (method, path)), None)
    return frozenset() if found is None else frozenset(one.name for one in found.query)
