"""What a rule says about one dispatch to one node. Values only.

There is at most one verdict: the first rule that matches (DESIGN §7). `allow` by a rule and no rule
at all differ in `rule` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from agent.domain.definition import RiskLevel

DELAY_S_MIN, DELAY_S_MAX = 1, 604_800  # seed 003's bounds: up to seven days


class Result(StrEnum):
    """The six results of a rule."""

    ALLOW = "allow"
    SCHEDULE = "schedule"
    REQUIRE_APPROVAL = "require_approval"
    AUTO_APPROVE = "auto_approve"
    SUPPRESS = "suppress"
    DEDUPLICATE = "deduplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result and its parameters; `rule` is the name of the rule that matched, if any did."""

    result: Result = Result.ALLOW
    rule: str | None = None
    reason: str | None = None
    """What the rule's author wrote for people (`description`, or the result's own `reason`)."""
    delay_s: int | None = None
    """Of `schedule`: whole seconds within the bounds."""
    ttl_s: float | None = None
    """Of `deduplicate`: how long a repeat is one; None: the default."""
    risk_level: RiskLevel | None = None
    """Makes the effective risk at least this (`require_approval` and `allow` may carry it)."""
    min_confidence: float | None = None
    """Of `auto_approve`: asked for instead of the configured one, if higher."""


class Rules(Protocol):
    """What a dispatch asks. `action` and `node` are plain JSON objects (docs/rules.md)."""

    def judge(self, action: Mapping[str, Any], node: Mapping[str, Any]) -> Verdict:
        """The verdict. Raises `InvalidDocument` where a rule computes something out of bounds."""
        ...


class NoRules:
    """Everything is allowed."""

    def judge(self, action: Mapping[str, Any], node: Mapping[str, Any]) -> Verdict:
        """The default."""
        return Verdict()
