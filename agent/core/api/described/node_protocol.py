"""The node protocol (docs/protocol.md): what nodes call, with their own credential."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.core.api.described.shared import NOT_THERE
from agent.infra.openapi import (
    FLAG,
    ID,
    INSTANT,
    LABELS,
    OBJECT,
    TEXT,
    WHOLE,
    Operation,
    Parameter,
    Schema,
    get,
    many,
    maybe,
    post,
    put,
    ref,
    shape,
)
from agent.wire.messages import INSTANCE_HEADER, PROTOCOL_HEADER

_VERSION = Parameter(PROTOCOL_HEADER, {"type": "string", "enum": ["1"]}, "the version spoken")
_HEADERS = (
    Parameter(
        INSTANCE_HEADER,
        {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9]+$"},
        "names this start of agentd",
        needed=True,
    ),
    _VERSION,
)
_NODE: Mapping[str, Any] = {"tag": "protocol", "scheme": "credential", "headers": _HEADERS}
_FENCED = (409, "fenced")
_BAD = (400, "unsupported_protocol")
_NONCE: Schema = {"type": "string", "minLength": 1, "maxLength": 128}
_SEQ: Schema = {**WHOLE, "minimum": 0}
_EVENT = {"seq": WHOLE, "mark": TEXT, "type": TEXT, "at": INSTANT, "action_id": TEXT}
_ITEM = {"action_id": TEXT, "revision": WHOLE, "owner": ref("Owner"), "execution": OBJECT,
         "definition": OBJECT}  # fmt: skip
_REPORT = {
    "version": TEXT, "protocol": WHOLE, "features": many(TEXT), "catalogue": many(OBJECT),
    "clock": OBJECT, "brakes": many(OBJECT), "pause": maybe(OBJECT), "progress": many(OBJECT),
    "host": TEXT, "labels": LABELS,
}  # fmt: skip
_STATE = {
    "agent_epoch": TEXT, "as_of_seq": _SEQ, "first_seq": _SEQ, "cursor": TEXT, "snapshot": TEXT,
    "part": _SEQ, "last": FLAG, "actions": many(ref("StateItem")),
}  # fmt: skip

OPERATIONS: tuple[Operation, ...] = (
    post(
        "/v1/agents/enroll", "Enrolled", "Token in, credential out.", name="enroll",
        tag="protocol", open=True, headers=(_VERSION,), body="Enroll", body_needed=True,
        errors=(_BAD, (400, "bad_message"), (401, "unauthorized"), (403, "forbidden"),
                (409, "exists")),
    ),
    get(
        "/v1/agents/{agent}/actions", "Pull", "Definitions and requests behind a cursor.",
        Parameter("cursor", TEXT, "acknowledges what came with it"),
        Parameter("wait", {"type": "number", "minimum": 0}, "seconds to wait at most (60)"),
        name="pull", errors=(_BAD, NOT_THERE, _FENCED), **_NODE,
    ),
    post(
        "/v1/agents/{agent}/events", "EventsAck", "Events in, how far they are durable out.",
        name="push_events", body="EventsPush", body_needed=True,
        errors=(_BAD, (400, "bad_message"), (400, "bad_events"), NOT_THERE, _FENCED,
                (409, "gap"), (409, "forked")),
        **_NODE,
    ),
    put(
        "/v1/agents/{agent}/node", "Nothing", "What the node is.",
        name="put_node", body="NodeReport", body_needed=True,
        errors=(_BAD, (400, "bad_message"), NOT_THERE, _FENCED), **_NODE,
    ),
    put(
        "/v1/agents/{agent}/state", "StateAccepted", "A part of everything the node has.",
        name="put_state", body="StatePush", body_needed=True,
        errors=(_BAD, (400, "bad_message"), NOT_THERE, _FENCED, (409, "gap"), (409, "forked")),
        **_NODE,
    ),
)  # fmt: skip

SCHEMAS: Mapping[str, Schema] = {
    "Enroll": shape(
        {"token": TEXT, "nonce": _NONCE, "agent_id": maybe(TEXT), "version": TEXT},
        "agent_id", "version",
    ),
    "Enrolled": shape({"agent_id": ID, "credential": TEXT}),
    "NodeRequest": shape(
        {"id": TEXT, "type": TEXT, "action_id": maybe(TEXT), "by": maybe(TEXT),
         "reason": maybe(TEXT), "args": maybe(OBJECT)},
        "args",
    ),
    "Pull": shape(
        {"cursor": TEXT, "full": FLAG, "actions": many(ref("Definition")),
         "requests": many(ref("NodeRequest"))}
    ),
    "NodeEvent": shape(_EVENT, "action_id"),
    "EventsPush": shape({"agent_epoch": TEXT, "events": many(ref("NodeEvent"))}),
    "EventsAck": shape({"acked": WHOLE}),
    "NodeReport": shape(_REPORT, *(name for name in _REPORT if name != "version")),
    "StateItem": shape(_ITEM, "definition"),
    "StatePush": shape(_STATE, "cursor", "snapshot", "part", "last", "actions"),
    "StateAccepted": shape({"faults": many(ref("Fault"))}),
    "Nothing": {"type": "object", "maxProperties": 0},
}  # fmt: skip
