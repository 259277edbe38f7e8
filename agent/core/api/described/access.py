"""Tokens and the audit log: what docs/access.md tells, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.api.described.shared import (
    ADMIN,
    NEXT,
    NOT_THERE,
    PAGE_AFTER,
    PAGE_LIMIT,
    VIEWER,
)
from agent.core.people.principal import Role
from agent.core.people.tokens import TTL_S_MAX
from agent.infra.openapi import (
    FLAG,
    INSTANT,
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
    ref,
    shape,
    words,
)

_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"}
_CURSOR: Schema = {"type": "string", "pattern": r"^[0-9]{1,15}\.[0-9a-f]{64}$"}
_TOKEN = {
    "id": TEXT, "name": TEXT, "role": ref("Role"), "state": ref("TokenState"),
    "created_at": INSTANT, "created_by": maybe(TEXT), "expires_at": maybe(INSTANT),
    "last_used_at": maybe(INSTANT), "revoked_at": maybe(INSTANT),
}  # fmt: skip
_LINE = {
    "row": WHOLE, "at": INSTANT, "who": TEXT, "what": TEXT, "target": TEXT, "detail": OBJECT,
    "hash": TEXT,
}  # fmt: skip

OPERATIONS: tuple[Operation, ...] = (
    get(
        "/v1/tokens", "TokenPage", "API tokens, by id.",
        Parameter("all", FLAG, "the revoked and expired ones too"), PAGE_LIMIT,
        Parameter("after", TEXT, "`next` of the page before"),
        name="list_tokens", tag="access", role=ADMIN,
    ),
    post(
        "/v1/tokens", "CreatedToken", "A token for a person or a program, shown this once.",
        name="create_token", tag="access", role=ADMIN, status=201, body="NewToken",
        body_needed=True, errors=((409, "exists"), (409, "too_many")),
    ),
    delete(
        "/v1/tokens/{id}", None, "Revoke a token; it opens nothing from then on.",
        name="revoke_token", tag="access", role=ADMIN, errors=(NOT_THERE, (409, "last_admin")),
    ),
    get(
        "/v1/audit", "AuditPage", "What somebody asked for, newest first.",
        Parameter("who", TEXT, "by this one"), Parameter("what", TEXT, "of this kind"),
        Parameter("target", TEXT, "to this"), PAGE_LIMIT, PAGE_AFTER,
        name="list_audit", tag="access", role=VIEWER,
    ),
    get(
        "/v1/audit/verify", "AuditVerdict", "Whether the log's chain holds, a part at a time.",
        Parameter("after", _CURSOR, "`next` of the part before, or a noted `head`"),
        Parameter(
            "limit", {"type": "integer", "minimum": 1, "maximum": 10_000}, "lines at most"
        ),
        name="verify_audit", tag="access", role=VIEWER,
    ),
)  # fmt: skip

SCHEMAS: Mapping[str, Schema] = {
    "Role": words(Role),
    "TokenState": {"type": "string", "enum": ["active", "expired", "revoked"]},
    "NewToken": closed(
        {
            "name": _NAME, "role": ref("Role"),
            "ttl_s": {"type": "number", "minimum": 1, "maximum": TTL_S_MAX},
        },
        "ttl_s",
    ),
    "Token": shape(_TOKEN),
    "CreatedToken": shape({"token": TEXT, **_TOKEN}),
    "TokenPage": shape({"tokens": many(ref("Token")), "next": NEXT}),
    "AuditLine": shape(_LINE),
    "AuditPage": shape({"lines": many(ref("AuditLine")), "next": NEXT}),
    "AuditVerdict": shape(
        {
            "ok": FLAG, "checked": WHOLE, "head": TEXT, "next": NEXT,
            "broken": maybe(ref("BrokenLine")),
        }
    ),
    "BrokenLine": shape({"row": WHOLE, "why": TEXT}),
}  # fmt: skip
