"""What becomes of a recurring action on each node it is for: the same checks as of a dispatch.

Catalogue, rules, approval, in that order, once for each node when it comes in. Of a rule's results
`schedule` and `deduplicate` say nothing here: its schedule says when, its id what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.core.actions.gathering import gathered
from agent.core.actions.planning import Outcome
from agent.core.actions.suiting import Suiting
from agent.core.actions.terms import Asker, Terms
from agent.core.approvals.judging import Judged, judge
from agent.core.nodes.facts import NodeFacts
from agent.core.occasion import Occasion
from agent.core.recurring.rule import Rule
from agent.core.rules.verdict import Result, Verdict
from agent.domain.approval import POLICY_PREFIX
from agent.domain.definition import Approval, ApprovalState, RiskLevel
from agent.domain.errors import Fault, InvalidDocument
from agent.wire.definition import PAUSED_SCHEDULE, encode_definition

ALLOWED = Verdict()
_NOT_HERE = frozenset({Result.SCHEDULE, Result.DEDUPLICATE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One node's part. SCHEDULED: it gets it; PENDING_APPROVAL: a person must decide first."""

    node: str
    outcome: Outcome
    verdict: Verdict = ALLOWED
    judged: Judged | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def note(self) -> str | None:
        """What a rule said that does not apply."""
        if self.verdict.result not in _NOT_HERE:
            return None
        word = self.verdict.result.value
        return f"the rule {self.verdict.rule} says {word}, which a recurring action ignores"


class Judging:
    """One recurring action, judged for node after node."""

    def __init__(
        self, occasion: Occasion, rule: Rule, terms: Terms, asker: Asker, *,
        approve: bool = False, is_edit: bool = False,
    ) -> None:  # fmt: skip
        self._occasion = occasion
        self._rule = rule
        self._terms = terms
        self._asker = asker
        self._approve = approve
        self._is_edit = is_edit
        self._suiting = Suiting(rule.definition)
        self._for_rules = encode_definition(rule.definition)
        self._asked = rule.asked()
        self._known: dict[tuple[RiskLevel | None, Verdict | None], Judged] = {}
        self._for_rules |= {"action_type": rule.definition.kind, "action_id": rule.id}

    def at_all(self) -> Judged:
        """Whether a person must decide wherever it is to run."""
        return self._judge(None, None)

    def on(self, node: NodeFacts) -> Part:
        """The node's part. Raises `Refused` where who asks may not approve it."""
        faults = self._suiting.faults_on(node) + self._unpausable(node)
        if faults:
            return Part(node=node.id, outcome=Outcome.FAILED, faults=faults)
        try:
            seen = self._for_rules | {"node": node.id}
            verdict = self._terms.rules.judge(seen, node.for_rules())
        except InvalidDocument as error:
            return Part(node=node.id, outcome=Outcome.FAILED, faults=error.faults)
        if verdict.result is Result.SUPPRESS:
            return Part(node=node.id, outcome=Outcome.SUPPRESSED, verdict=verdict)
        judged = self._judge(node, verdict)
        waits = judged.decision.needed and not self._is_approved()
        outcome = Outcome.PENDING_APPROVAL if waits else Outcome.SCHEDULED
        return Part(node=node.id, outcome=outcome, verdict=verdict, judged=judged)

    def _unpausable(self, node: NodeFacts) -> tuple[Fault, ...]:
        if self._rule.paused is None or node.kinds is None or PAUSED_SCHEDULE in node.features:
            return ()
        text = f"{node.id} cannot hold a paused schedule; upgrade it, or resume this first"
        return (Fault("schedule.paused", text),)

    def _is_approved(self) -> bool:
        """A person has said yes to this very definition already.

        The policy is asked again for each node: it looks at the risk there, which people accept.
        """
        approval = self._rule.definition.approval
        if approval is None or approval.state is not ApprovalState.APPROVED:
            return False
        return not (approval.by or "").startswith(POLICY_PREFIX)

    def _judge(self, node: NodeFacts | None, verdict: Verdict | None) -> Judged:
        """One judgement for all nodes of the same risk and verdict: they are one question."""
        kind = (node.kinds or {}).get(self._asked.kind) if node is not None else None
        key = (kind.risk_level if kind is not None else None, verdict)
        judged = self._known.get(key)
        if judged is None:
            judged = self._known[key] = judge(
                self._asked,
                terms=self._terms.approvals,
                now=self._occasion.now,
                requested_by=self._asker.name,
                kind=kind,
                verdict=verdict,
                approve=self._approve,
                is_edit=self._is_edit,
            )
        return judged


def strictest(at_all: Judged, parts: Iterable[Part]) -> Judged:
    """The judgement that holds for the whole: one that needs a person, else one with a record."""
    every = [at_all, *(part.judged for part in parts if part.judged is not None)]
    for one in every:
        if one.decision.needed:
            return one
    return next((one for one in every if one.definition.approval is not None), at_all)


def record_of(judged: Judged) -> Approval | None:
    """The approval record that the rule's definition is to carry."""
    return judged.definition.approval


def all_faults(parts: Sequence[Part]) -> list[Fault]:
    """The faults of all; of several nodes with their names."""
    if len(parts) == 1:
        return list(parts[0].faults)
    return gathered((part.node, part.faults) for part in parts)
