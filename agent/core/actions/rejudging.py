"""A change of an action that was accepted once, judged: does it wait for a person?

The rules are not asked again: a delayed action never meets its own delay rule twice. But whatever
had to be approved as it was has to be approved as it is to be.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.actions.terms import Asker
from agent.core.approvals.judging import ApprovalTerms, Judged, judge
from agent.core.nodes.facts import KindFacts
from agent.core.occasion import Occasion
from agent.core.rules.verdict import Result, Verdict
from agent.domain.definition import ApprovalState, Definition

VOIDED = "any change voids the approval that it had"
CHANGED = "it was changed while it waited for approval"


def judge_change(
    definition: Definition,
    *,
    terms: ApprovalTerms,
    occasion: Occasion,
    asker: Asker,
    kind: KindFacts | None,
    approve: bool,
) -> Judged:
    """The changed definition, judged; it still carries the approval that it had before.

    Raises `Refused` (`four_eyes`).
    """
    was_approved = definition.approval is not None
    judged = judge(
        definition,
        terms=terms,
        now=occasion.now,
        requested_by=asker.name,
        kind=kind,
        verdict=_AGAIN if was_approved else None,
        approve=approve,
        is_edit=True,
    )
    if judged.decision.rule != _AGAIN.rule or judged.question is None:
        return judged
    waited = definition.approval is not None and definition.approval.state is ApprovalState.PENDING
    why = CHANGED if waited else VOIDED
    question = replace(judged.question, why=why, rule=None)  # no rule of anybody's has that name
    return replace(judged, question=question)


_AGAIN = Verdict(result=Result.REQUIRE_APPROVAL, rule="approved before", reason=VOIDED)
