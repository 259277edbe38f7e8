"""Rules: what docs/rules.md tells, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.api.described.shared import ADMIN, NOT_THERE, VIEWER
from agent.core.rules.verdict import Result
from agent.domain.definition import RiskLevel
from agent.infra.openapi import (
    FLAG,
    ID,
    INSTANT,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Operation,
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

OPERATIONS: tuple[Operation, ...] = (
    get(
        "/v1/rules", "RuleList", "The rules in the order in which they are asked.",
        name="list_rules", tag="rules", role=VIEWER,
    ),
    post(
        "/v1/rules/reload", "RuleList",
        "Read the rule files anew; with any fault all rules stay as they are.",
        name="reload_rules", tag="rules", role=ADMIN, errors=((409, "no_rules"),),
    ),
    post(
        "/v1/rules/test", "RuleTest",
        "What the rules say of a dispatch, and why; nothing is stored.",
        name="test_rules", tag="rules", role=VIEWER, body="RuleTestAsked", body_needed=True,
        errors=(NOT_THERE, (409, "decommissioned")),
    ),
)  # fmt: skip

SCHEMAS: Mapping[str, Schema] = {
    "Rule": shape(
        {
            "name": TEXT, "priority": WHOLE, "enabled": FLAG, "description": maybe(TEXT),
            "decides": TEXT, "file": TEXT, "line": WHOLE,
        }
    ),
    "RuleFault": shape({"path": TEXT, "message": TEXT}),
    "RulesRefused": shape({"at": INSTANT, "by": TEXT, "faults": many(ref("RuleFault"))}),
    "RuleList": shape(
        {
            "rules": many(ref("Rule")), "digest": maybe(TEXT), "directory": maybe(TEXT),
            "loaded_at": INSTANT, "refused": maybe(ref("RulesRefused")),
        }
    ),
    "RuleTestAsked": closed({"action": OBJECT, "node": {"anyOf": [ID, OBJECT]}}, "node"),
    "RuleAsked": shape(
        {"rule": TEXT, "file": TEXT, "line": WHOLE, "matched": FLAG, "why": TEXT}
    ),
    "RuleTest": shape(
        {
            "result": maybe(words(Result)), "rule": maybe(TEXT), "reason": maybe(TEXT),
            "delay_seconds": maybe(WHOLE), "ttl_seconds": maybe(NUMBER),
            "risk_level": maybe(words(RiskLevel)), "min_confidence": maybe(NUMBER),
            "failed": maybe(TEXT), "node": maybe(OBJECT), "trail": many(ref("RuleAsked")),
        }
    ),
}  # fmt: skip
