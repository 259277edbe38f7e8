"""What a dispatch is answered: seed 003's outcomes, of one action or of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.core.actions.planning import Outcome
from agent.core.actions.settling import Result, Settled
from agent.core.actions.submission import Submission
from agent.domain.definition import ApprovalState
from agent.domain.instants import maybe_format
from agent.domain.phase import Phase
from agent.wire.messages import plain_faults

_LEAST_SETTLED_FIRST = (
    Outcome.PENDING_APPROVAL,
    Outcome.QUEUED,
    Outcome.SCHEDULED,
    Outcome.FAILED,
    Outcome.EXECUTED,
    Outcome.DEDUPLICATED,
    Outcome.SUPPRESSED,
)
"""Several actions have one outcome together: the one that leaves most to be done."""
_DRY = Outcome.DRY_RUN.value


def answer_of(
    submission: Submission,
    result: Result,
    *,
    dry_run: bool = False,
    ends: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The whole answer; of a dry run what it would be. `ends` are those that were waited for."""
    if result.repeat_of is not None:
        return _dried(_repeat(submission, result.repeat_of), dry_run=dry_run)
    parts = [part_document(part, (ends or {}).get(part.action_id or "")) for part in result.parts]
    if submission.target.node is not None:
        return _dried(parts[0], dry_run=dry_run)
    named = [
        {"node": part.plan.node, **document}
        for part, document in zip(result.parts, parts, strict=True)
    ]
    if submission.target.picks_any:
        return _dried(named[0], dry_run=dry_run)
    return several(
        [_dried(one, dry_run=dry_run) for one in named],
        result.parts[0].plan.definition.correlation_id,
    )


def part_document(part: Settled, end: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One action's outcome, and what belongs to it; no node."""
    if end is not None:
        word = Outcome.EXECUTED if end["phase"] == Phase.DONE.value else Outcome.FAILED
        return {"outcome": word.value, "action_id": part.action_id, "response": dict(end)}
    definition, outcome = part.plan.definition, part.outcome
    found: dict[str, Any] = {"outcome": outcome.value}
    if part.action_id is not None:
        found["action_id"] = part.action_id
    if outcome is Outcome.SCHEDULED:
        starts_at = None if definition.schedule is not None else definition.from_date
        found["scheduled_for"] = maybe_format(starts_at)
    if outcome is Outcome.PENDING_APPROVAL:
        found |= _question(part)
    if outcome is Outcome.FAILED:
        found["faults"] = plain_faults(part.faults)
    if outcome is not Outcome.FAILED and part.plan.rule is not None:
        found["rule"] = part.plan.rule
        if part.plan.verdict.reason:
            found["reason"] = part.plan.verdict.reason
    approval = definition.approval
    if approval is not None and approval.state is ApprovalState.APPROVED:
        found["approved_by"] = approval.by
    return found


def _question(part: Settled) -> dict[str, Any]:
    judged = part.plan.judged
    assert judged is not None, "what waits was judged"
    approval = part.plan.definition.approval
    return {
        "approval_id": part.approval_id,  # none yet in a dry run
        "why": judged.decision.why,
        "risk_level": judged.decision.risk.value if judged.decision.risk else None,
        "expires_at": maybe_format(approval.expires_at) if approval else None,
    }


def _repeat(submission: Submission, first: Mapping[str, Any]) -> dict[str, Any]:
    outcome = Outcome.DEDUPLICATED.value
    if "actions" not in first:
        named = {} if submission.target.node is not None else {"node": first["node"]}
        return {**named, "outcome": outcome, "action_id": first["action_id"]}
    return several(
        [
            {"node": node, "outcome": outcome, "action_id": action_id}
            for node, action_id in first["actions"]
        ],
        first["correlation_id"],
    )


def _dried(found: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
    if not dry_run:
        return found
    return {**found, "outcome": _DRY, "would_be": found["outcome"]}


def several(named: Sequence[Mapping[str, Any]], correlation_id: str | None) -> dict[str, Any]:
    """Actions on several nodes, as one answer; of a single one its id is beside the outcome too."""
    member = "would_be" if named[0]["outcome"] == _DRY else "outcome"
    words = {one[member] for one in named}
    together = next(word.value for word in _LEAST_SETTLED_FIRST if word.value in words)
    found: dict[str, Any] = {"outcome": together}
    if member == "would_be":
        found = {"outcome": _DRY, "would_be": together}
    if len(named) == 1:
        kept = ("action_id", "scheduled_for", "approval_id")
        found |= {key: named[0][key] for key in kept if key in named[0]}
    return {**found, "correlation_id": correlation_id, "actions": list(named)}
