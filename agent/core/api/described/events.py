"""Events, live and by webhook, and metrics: what docs/events.md and docs/metrics.md tell."""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.api.described.shared import (
    ADMIN,
    NEXT,
    NOT_THERE,
    PAGE_AFTER,
    PAGE_LIMIT,
    VIEWER,
    WAIT_S,
)
from agent.infra.openapi import (
    FLAG,
    INSTANT,
    OBJECT,
    PLAIN,
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
    ref,
    shape,
)

_GONE = (410, "gone")
_WANTED: Schema = {"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[^\\x00]+$"}
_TYPE: Schema = {"type": "string", "pattern": "^[a-z_]{1,64}$"}
_TYPES: Schema = {"type": "string", "pattern": "^[a-z_]{1,64}(,[a-z_]{1,64}){0,49}$"}
_FILTERS = (
    Parameter("node", _WANTED, "of this node"),
    Parameter("selector", {"type": "string", "maxLength": 4096}, "of nodes with these labels"),
    Parameter("type", _TYPES, "of these types, with commas between"),
    Parameter("action_id", _WANTED, "of this action"),
    Parameter("correlation_id", _WANTED, "of actions with this correlation id"),
    Parameter("kind", _WANTED, "of actions of this kind"),
)
_LAST_EVENT_ID = Parameter(
    "Last-Event-ID",
    {"type": "string", "pattern": "^[0-9]{1,15}$"},
    "of a live stream: go on behind this event",
)
_WEBHOOK: Mapping[str, Schema] = {
    "id": TEXT, "url": TEXT, "filter": ref("EventFilter"), "enabled": FLAG,
    "created_at": INSTANT, "created_by": TEXT, "cursor": WHOLE, "behind": WHOLE,
    "attempts": WHOLE, "next_at": maybe(INSTANT), "last_error": maybe(TEXT), "failures": WHOLE,
}  # fmt: skip
_FILTER: Mapping[str, Schema] = {
    "node": _WANTED, "selector": {"type": "string", "maxLength": 4096},
    "type": {"type": "array", "items": _TYPE, "minItems": 1, "maxItems": 50},
    "action_id": _WANTED, "correlation_id": _WANTED, "kind": _WANTED,
}  # fmt: skip
_ONE, _LETTER = "/v1/webhooks/{id}", "/v1/webhooks/{id}/failures/{row}"

OPERATIONS: tuple[Operation, ...] = (
    get(
        "/v1/events", "EventPage",
        "All events behind a number, each once; live where the caller accepts text/event-stream.",
        PAGE_AFTER, PAGE_LIMIT, WAIT_S, *_FILTERS,
        name="list_events", tag="events", role=VIEWER, headers=(_LAST_EVENT_ID,),
        also=("text/event-stream",), errors=(_GONE,),
    ),
    post(
        "/v1/webhooks", "CreatedWebhook", "Send events somewhere; the secret is shown this once.",
        name="create_webhook", tag="events", role=ADMIN, status=201, body="NewWebhook",
        body_needed=True, errors=((409, "too_many"), _GONE),
    ),
    get(
        "/v1/webhooks", "WebhookList", "All of them.",
        name="list_webhooks", tag="events", role=ADMIN,
    ),
    get(_ONE, "Webhook", "One.", name="get_webhook", tag="events", role=ADMIN,
        errors=(NOT_THERE,)),
    delete(
        _ONE, "WebhookDeleted", "Take it away, with its dead letters.",
        name="delete_webhook", tag="events", role=ADMIN, errors=(NOT_THERE,),
    ),
    post(
        f"{_ONE}/enable", "Webhook", "Deliver on from its cursor.",
        name="enable_webhook", tag="events", role=ADMIN, errors=(NOT_THERE,),
    ),
    post(
        f"{_ONE}/disable", "Webhook", "Rest at its cursor.",
        name="disable_webhook", tag="events", role=ADMIN, errors=(NOT_THERE,),
    ),
    post(
        f"{_ONE}/test", "WebhookAttempt", "Send a test message now, once.",
        name="test_webhook", tag="events", role=ADMIN, errors=(NOT_THERE,),
    ),
    get(
        f"{_ONE}/failures", "WebhookFailurePage", "Its dead letters, oldest first.",
        PAGE_AFTER, PAGE_LIMIT,
        name="list_webhook_failures", tag="events", role=ADMIN, errors=(NOT_THERE,),
    ),
    post(
        f"{_LETTER}/retry", "WebhookAttempt", "Send a dead letter once more.",
        name="retry_webhook_failure", tag="events", role=ADMIN, errors=(NOT_THERE,),
    ),
    delete(
        _LETTER, "WebhookFailureDeleted", "Forget a dead letter.",
        name="delete_webhook_failure", tag="events", role=ADMIN, errors=(NOT_THERE,),
    ),
    get(
        "/metrics", None, "Prometheus' text format.",
        name="get_metrics", tag="service", role=VIEWER, media=PLAIN,
    ),
)  # fmt: skip

SCHEMAS: Mapping[str, Schema] = {
    "EventPage": shape({"events": many(ref("Event")), "next": TEXT}),
    "EventFilter": closed(_FILTER, *_FILTER),
    "NewWebhook": closed(
        {
            "url": {"type": "string", "format": "uri", "maxLength": 2048},
            "filter": ref("EventFilter"),
            "after": {"type": "integer", "minimum": 0, "maximum": 2**53},
        },
        "filter",
        "after",
    ),
    "Webhook": shape(_WEBHOOK),
    "CreatedWebhook": shape({**_WEBHOOK, "secret": TEXT}),
    "WebhookList": shape({"webhooks": many(ref("Webhook"))}),
    "WebhookDeleted": shape({"id": TEXT, "deleted": FLAG}),
    "WebhookAttempt": shape(
        {"delivered": FLAG, "status": maybe(WHOLE), "error": maybe(TEXT)}
    ),
    "WebhookFailure": shape(
        {
            "row": WHOLE, "event_id": WHOLE, "attempts": WHOLE, "error": TEXT, "at": INSTANT,
            "message": OBJECT,
        }
    ),
    "WebhookFailurePage": shape({"failures": many(ref("WebhookFailure")), "next": NEXT}),
    "WebhookFailureDeleted": shape({"row": WHOLE, "deleted": FLAG}),
}  # fmt: skip
