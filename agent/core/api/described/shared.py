"""The schemas that several grounds answer with: definitions, actions, events, errors."""

from __future__ import annotations

from collections.abc import Mapping

from agent.infra.definition_schema import DEFINITION, EXECUTION, PARTS
from agent.infra.openapi import (
    FLAG,
    ID,
    INSTANT,
    KIND,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Parameter,
    Schema,
    maybe,
    ref,
    shape,
)

VIEWER, OPERATOR, APPROVER, ADMIN = "viewer", "operator", "approver", "admin"
NEXT: Schema = maybe(TEXT)
"""`after` of the next page; null on the last."""

PAGE_LIMIT = Parameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": 500}, "how many at most"
)
PAGE_AFTER = Parameter(
    "after", {"type": "string", "pattern": "^[0-9]{1,15}$"}, "`next` of the page before"
)
WAIT_S = Parameter("wait", {"type": "number", "minimum": 0}, "seconds to wait at most (60)")
NODE = Parameter("node", TEXT, "of this node")
OWNER = Parameter("owner", ref("Owner"), "where two have one id: whose")

NOT_THERE = (404, "not_found")
AMBIGUOUS = (409, "ambiguous")

# What the core says of an action beside its definition and its execution (docs/core-api.md).
_STANDING: Mapping[str, Schema] = {
    "id": ID, "node": TEXT, "owner": ref("Owner"), "kind": maybe(KIND), "phase": ref("Phase"),
    "revision": WHOLE, "revision_applied": maybe(WHOLE), "delivered": maybe(FLAG),
    "requested": maybe(OBJECT), "refused": maybe(OBJECT), "lost_at": maybe(INSTANT),
    "lost_reason": maybe(TEXT), "created_at": INSTANT,
}  # fmt: skip
_IN_LISTS_NOT = ("payload", "metadata", "output", "rollback_reference")
_MEMBERS: Mapping[str, Schema] = {**DEFINITION, **EXECUTION, **_STANDING}
_ALWAYS = frozenset({*EXECUTION, *_STANDING})
_SUMMARY = {
    name: schema for name, schema in _MEMBERS.items() if name not in _IN_LISTS_NOT
} | {"recurring": maybe(OBJECT)}  # fmt: skip
_WHOLE = {**_MEMBERS, "recurring": maybe(OBJECT), "progress": maybe(ref("Progress"))}

SCHEMAS: Mapping[str, Schema] = {
    **PARTS,
    "Definition": shape(
        DEFINITION, *(name for name in DEFINITION if name not in ("id", "kind", "owner"))
    ),
    "Progress": shape({"percent": maybe(NUMBER), "message": maybe(TEXT)}, "percent", "message"),
    "Action": shape(_WHOLE, *(name for name in _WHOLE if name not in _ALWAYS)),
    "ActionSummary": shape(_SUMMARY, *(name for name in _SUMMARY if name not in _ALWAYS)),
    "Event": shape(
        {
            "id": WHOLE, "node": maybe(TEXT), "seq": maybe(WHOLE), "type": TEXT,
            "action_id": maybe(TEXT), "at": INSTANT, "stored_at": INSTANT, "by": ref("Source"),
        }
    ),
    "Source": {"type": "string", "enum": ["core", "node"]},
}  # fmt: skip
