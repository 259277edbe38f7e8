"""A definition that is about to be placed or changed, judged: does it wait for a person?

Gathers what the pure policy looks at (the node's manifest, the rule, the settings) and fills the
definition's approval record, bound by digest. Whoever edits a definition judges it again: an
approval was given for exactly what it was given for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from agent.core.approvals.requests import Question
from agent.core.nodes.facts import KindFacts
from agent.core.rules.verdict import Result, Verdict
from agent.domain.approval import (
    TTL_S_DEFAULT,
    ApprovalDecision,
    ApprovalPolicy,
    RuleWord,
    decide_approval,
)
from agent.domain.definition import Definition
from agent.wire.canonical import digest_of

_LATER = ""  # most need no record, and a digest costs more than the decision


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalTerms:
    """The settings: the policy, and how long a question waits for its answer."""

    policy: ApprovalPolicy = field(default_factory=ApprovalPolicy)
    ttl_s: float = TTL_S_DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The definition with its approval record, and the question if there is one to put."""

    definition: Definition
    decision: ApprovalDecision
    question: Question | None


def judge(
    definition: Definition,
    *,
    terms: ApprovalTerms,
    now: datetime,
    requested_by: str,
    kind: KindFacts | None = None,
    verdict: Verdict | None = None,
    approve: bool = False,
    is_edit: bool = False,
) -> Judged:
    """Decide. `approve`: who asks has the approver role and approves in the same step.

    Store `question` with `requests.ask_all` in the transaction that places the definition. Raises
    `Refused` (`four_eyes`).
    """
    bare = replace(definition, approval=None)
    decision = decide_approval(
        bare,
        policy=terms.policy,
        now=now,
        digest=_LATER,
        manifest_risk=kind.risk_level if kind is not None else None,
        rule=rule_word(verdict),
        approver=requested_by if approve else None,
        expires_at=_expires_at(bare, terms, now),
    )
    if decision.record is None:
        return Judged(definition=bare, decision=decision, question=None)
    record = replace(decision.record, digest=digest_of(bare))
    decision = replace(decision, record=record)
    judged = replace(bare, approval=record)
    question = _question(judged, decision, terms, requested_by, is_edit=is_edit)
    return Judged(definition=judged, decision=decision, question=question)


def rule_word(verdict: Verdict | None) -> RuleWord | None:
    """What a verdict says about approval; None where no rule matched."""
    if verdict is None or verdict.rule is None:
        return None
    return RuleWord(
        name=verdict.rule,
        requires=verdict.result is Result.REQUIRE_APPROVAL,
        approves=verdict.result is Result.AUTO_APPROVE,
        risk_level=verdict.risk_level,
        min_confidence=verdict.min_confidence,
        reason=verdict.reason,
    )


def _expires_at(definition: Definition, terms: ApprovalTerms, now: datetime) -> datetime:
    """When the question is over; not later than what it asks about."""
    at = now + timedelta(seconds=terms.ttl_s)
    return at if definition.to_date is None else min(at, definition.to_date)


def _question(
    definition: Definition,
    decision: ApprovalDecision,
    terms: ApprovalTerms,
    requested_by: str,
    *,
    is_edit: bool,
) -> Question | None:
    record = decision.record
    if not decision.needed or record is None or record.digest is None:
        return None
    return Question(
        definition=definition,
        digest=record.digest,
        risk=decision.risk,
        why=decision.why,
        rule=decision.rule,
        requested_by=requested_by,
        expires_at=record.expires_at,
        four_eyes=terms.policy.four_eyes,
        is_edit=is_edit,
    )
