"""Whether an action needs a person, and what is recorded of the answer (docs/approvals.md).

Pure. The strictest of everything that speaks of risk counts, and whatever asks for a person gets
one: nothing here lowers anything, no rule, no field, no mode. Only a *proposal* can be approved
without a person, by the policy, and a dangerous one never.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from agent.domain.definition import (
    Approval,
    ApprovalState,
    Definition,
    Requester,
    RiskLevel,
)
from agent.domain.errors import Refused

MIN_CONFIDENCE_DEFAULT = 0.9
TTL_S_DEFAULT = 7 * 86_400.0  # how long a question waits for its answer
TTL_S_MAX = 366 * 86_400.0  # one that nobody answers in a year is no question
POLICY_PREFIX = "policy:"
"""Who approved, where no person did: followed by the name of the rule."""

_STRICTNESS = [RiskLevel.SAFE, RiskLevel.GUARDED, RiskLevel.DANGEROUS]


class ApprovalMode(StrEnum):
    """How much may go without a person."""

    RECOMMEND = "recommend"  # nothing
    SUPERVISED = "supervised"  # what is safe or unclassified
    AUTONOMOUS = "autonomous"  # and what is guarded, where the policy allows it


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPolicy:
    """What the core was told about approvals."""

    mode: ApprovalMode = ApprovalMode.SUPERVISED
    min_confidence: float = MIN_CONFIDENCE_DEFAULT
    four_eyes: bool = False
    """Nobody decides what was asked for under the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleWord:
    """What the rule that matched says about approval."""

    name: str
    requires: bool = False
    approves: bool = False
    risk_level: RiskLevel | None = None
    min_confidence: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalDecision:
    """`record` is what the definition is to carry: None where no approval plays a part.

    `needed`: a person has yet to decide; then the record is pending.
    """

    needed: bool
    record: Approval | None
    why: str
    """What makes it wait, or what let it go, in words for people."""
    risk: RiskLevel | None
    rule: str | None = None
    """The rule that had a part in it."""


def effective_risk(*levels: RiskLevel | None) -> RiskLevel | None:
    """The strictest of those that are given; None where nobody classified it."""
    given = [level for level in levels if level is not None]
    return max(given, key=_STRICTNESS.index) if given else None


def is_proposal(definition: Definition) -> bool:
    """Whether somebody suggests this rather than asks for it: only then may the policy approve."""
    return (
        definition.requester is Requester.SPOOL
        or definition.proposed_by is not None
        or definition.confidence is not None
    )


def decide_approval(
    definition: Definition,
    *,
    policy: ApprovalPolicy,
    now: datetime,
    digest: str,
    manifest_risk: RiskLevel | None = None,
    rule: RuleWord | None = None,
    approver: str | None = None,
    expires_at: datetime | None = None,
) -> ApprovalDecision:
    """What holds for this definition. `approver` has the role and approves in the same step.

    Whatever approval the definition carries is not looked at: it was given for something else.
    Raises `Refused` (`four_eyes`) where who asks may not be who approves.
    """
    by_rule = rule.risk_level if rule is not None else None
    risk = effective_risk(definition.risk_level, manifest_risk, by_rule)
    waits = _person_needed(definition, policy, risk, rule)
    named = rule.name if rule is not None and (rule.requires or rule.approves) else None
    if waits is None:
        if rule is None or not _is_policy_s(definition, policy, risk, rule):
            return ApprovalDecision(needed=False, record=None, why=_runs(risk), risk=risk)
        record = _approved(f"{POLICY_PREFIX}{rule.name}", rule.reason, now, digest)
        why = f"approved by the rule {rule.name}"
        return ApprovalDecision(needed=False, record=record, why=why, risk=risk, rule=named)
    if approver is not None:
        if policy.four_eyes:
            raise Refused(
                "four_eyes",
                f"{waits}, and by somebody else than {approver!r}, who asks for it (four eyes); "
                "dispatch it without approving",
            )
        record = _approved(approver, "with the dispatch", now, digest)
        return ApprovalDecision(needed=False, record=record, why=waits, risk=risk, rule=named)
    record = Approval(state=ApprovalState.PENDING, expires_at=expires_at, digest=digest)
    return ApprovalDecision(needed=True, record=record, why=waits, risk=risk, rule=named)


def _approved(by: str, reason: str | None, now: datetime, digest: str) -> Approval:
    return Approval(state=ApprovalState.APPROVED, by=by, at=now, reason=reason, digest=digest)


def _runs(risk: RiskLevel | None) -> str:
    return f"{risk.value if risk else 'unclassified'} actions need no approval here"


def _person_needed(
    definition: Definition, policy: ApprovalPolicy, risk: RiskLevel | None, rule: RuleWord | None
) -> str | None:
    """Why a person must decide, or None. The first reason that no setting could change is told."""
    if risk is RiskLevel.DANGEROUS:
        return "it is dangerous, which always waits for a person"
    if definition.approval_required:
        return "it says approval_required"
    if rule is not None and rule.requires:
        why = f": {rule.reason}" if rule.reason else ""
        return f"the rule {rule.name} requires approval{why}"
    if policy.mode is ApprovalMode.RECOMMEND:
        return "in the mode recommend everything waits for a person"
    if risk is RiskLevel.GUARDED and policy.mode is ApprovalMode.SUPERVISED:
        return "it is guarded, which waits for a person in the mode supervised"
    lacking = _lacking(definition, policy, risk, rule)
    if risk is RiskLevel.GUARDED:
        return f"it is guarded, and {lacking}" if lacking else None
    # A rule that approves proposals is the policy for them: what it asks for is not optional.
    if rule is not None and rule.approves and is_proposal(definition):
        low = _confidence_lacking(definition, policy, rule)
        return f"it is a proposal, and {low}" if low else None
    return None


def _is_policy_s(
    definition: Definition, policy: ApprovalPolicy, risk: RiskLevel | None, rule: RuleWord
) -> bool:
    """Whether the policy approved this: then it is recorded, also where the mode asks nobody."""
    return risk is not None and _lacking(definition, policy, risk, rule) is None


def _lacking(
    definition: Definition, policy: ApprovalPolicy, risk: RiskLevel | None, rule: RuleWord | None
) -> str | None:
    """What the policy misses for approving without a person, or None."""
    if rule is None or not rule.approves:
        return "no auto_approve rule matches"
    if not is_proposal(definition):
        return "it is no proposal, which alone can be approved by a rule"
    if risk is not RiskLevel.SAFE and not definition.autonomous_eligible:
        return "not autonomous_eligible"
    return _confidence_lacking(definition, policy, rule)


def _confidence_lacking(
    definition: Definition, policy: ApprovalPolicy, rule: RuleWord
) -> str | None:
    asked = max(policy.min_confidence, rule.min_confidence or 0.0)
    given = definition.confidence or 0.0
    if given >= asked:
        return None
    said = "has no confidence" if definition.confidence is None else f"its confidence is {given:g}"
    return f"{said} where {asked:g} is needed"
