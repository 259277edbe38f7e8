"""What is answered to who creates or edits a recurring action, here and by a dispatch. Pure."""

from __future__ import annotations

from typing import Any

from agent.core.actions.planning import Outcome
from agent.core.recurring.changing import Made
from agent.core.recurring.judging import Part
from agent.domain.definition import ApprovalState
from agent.domain.instants import maybe_format
from agent.wire.messages import plain_faults

_DRY = Outcome.DRY_RUN.value


def made_document(made: Made) -> dict[str, Any]:
    """The outcome of the whole and of each node that it was judged for."""
    told = _of_the_whole(made, dry_run=False)
    return told | {"actions": [_part(part, made) for part in made.parts]}


def dispatched_document(made: Made, *, dry_run: bool = False) -> dict[str, Any]:
    """As seed 003 answers a dispatch: of one node one outcome, of several also each one's."""
    told = _of_the_whole(made, dry_run=dry_run) | {"action_id": made.rule.id}
    if made.outcome is Outcome.SCHEDULED:
        told["scheduled_for"] = None  # its node says when
    if made.outcome is Outcome.SUPPRESSED:
        del told["action_id"]
    if made.rule.node is not None:
        verdict = made.parts[0].verdict if made.parts else None
        if (
            verdict is not None
            and verdict.rule is not None
            and made.outcome is not (Outcome.SCHEDULED)
        ):
            told["rule"] = verdict.rule
        return told
    return told | {
        "correlation_id": made.rule.definition.correlation_id,
        "actions": [_part(part, made) for part in made.parts],
    }


def _of_the_whole(made: Made, *, dry_run: bool) -> dict[str, Any]:
    outcome = made.outcome.value
    told: dict[str, Any] = {"outcome": outcome}
    if dry_run:
        told = {"outcome": _DRY, "would_be": outcome}
    decision = made.judged.decision
    if made.outcome is Outcome.PENDING_APPROVAL:
        approval = made.judged.definition.approval
        told |= {
            "approval_id": made.question,
            "why": decision.why,
            "risk_level": decision.risk.value if decision.risk else None,
            "expires_at": maybe_format(approval.expires_at) if approval else None,
        }
    approval = made.rule.definition.approval
    if approval is not None and approval.state is ApprovalState.APPROVED:
        told["approved_by"] = approval.by
    return told


def _part(part: Part, made: Made) -> dict[str, Any]:
    told: dict[str, Any] = {"node": part.node, "outcome": part.outcome.value}
    if part.outcome in (Outcome.SCHEDULED, Outcome.PENDING_APPROVAL):
        told["action_id"] = made.rule.id
        if made.outcome is Outcome.PENDING_APPROVAL:
            told["outcome"] = Outcome.PENDING_APPROVAL.value
    if part.outcome is Outcome.FAILED:
        told["faults"] = plain_faults(part.faults)
    if part.outcome is Outcome.SUPPRESSED:
        told |= {"rule": part.verdict.rule, "reason": part.verdict.reason}
    if part.note is not None:
        told["note"] = part.note
    return told
