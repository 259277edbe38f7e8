"""What becomes of a dispatch on each node it is for: checked, judged by the rules, once.

Nothing is stored here. Order: the node's catalogue, then the rules, then approvals; what a rule
does to the definition (a delay) is done before its approval is bound to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any

from sqlalchemy.engine import Connection

from agent.core.actions.gathering import gathered
from agent.core.actions.resolving import resolve, resolve_one, why_not_there
from agent.core.actions.submission import DEDUP_TTL_S_DEFAULT, Submission
from agent.core.actions.suiting import Suiting
from agent.core.actions.terms import Asker, Terms
from agent.core.approvals.judging import Judged, judge
from agent.core.nodes.facts import KindFacts, NodeFacts
from agent.core.nodes.selection import facts_of
from agent.core.occasion import Occasion
from agent.core.rules.verdict import Result, Verdict
from agent.domain.definition import Definition
from agent.domain.errors import AgentError, Fault, InvalidDocument, Refused
from agent.domain.instants import format_instant
from agent.wire.definition import encode_definition
from agent.wire.strict_json import encode

LOOKED_AT_ONCE = 100  # nodes of a pick; the first of them that can is taken, seldom more are read


class Outcome(StrEnum):
    """Seed 003's words, and those that its features need besides (DESIGN §6)."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    PENDING_APPROVAL = "pending_approval"
    SUPPRESSED = "suppressed"
    DEDUPLICATED = "deduplicated"
    EXECUTED = "executed"
    FAILED = "failed"
    DRY_RUN = "dry_run"


STORED = frozenset({Outcome.QUEUED, Outcome.SCHEDULED, Outcome.PENDING_APPROVAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One node's part of a dispatch; `definition` is final, approval record included."""

    node: str
    definition: Definition
    outcome: Outcome
    verdict: Verdict = field(default_factory=Verdict)
    judged: Judged | None = None
    dedup_key: str | None = None
    """What a rule wants not to happen twice; `dedup_ttl_s` is how long it counts."""
    dedup_ttl_s: float = DEDUP_TTL_S_DEFAULT
    faults: tuple[Fault, ...] = ()
    kind: KindFacts | None = None
    """What the node told of its kind, and in which report: what this was judged by."""
    reported_at: datetime | None = None

    @property
    def rule(self) -> str | None:
        """The rule that had a part in it, if one had."""
        return None if self.verdict.result is Result.ALLOW else self.verdict.rule


def plan_dispatch(
    connection: Connection, occasion: Occasion, submission: Submission, terms: Terms, asker: Asker
) -> list[Plan]:
    """One plan per node, by name; at least one of them is not FAILED.

    Raises `NotFound`, `Refused`, and `InvalidDocument` with every fault where no node can run it.
    """
    ids = resolve(connection, submission.target)
    judging = _Judging(occasion, submission, terms, asker)
    if submission.target.picks_any:
        return [_any_of(connection, occasion, judging, ids)]
    known = facts_of(connection, ids)
    if not known:
        raise why_not_there(connection, ids[0])
    plans = [judging.plan(facts) for facts in known]
    if all(plan.outcome is Outcome.FAILED for plan in plans):
        raise InvalidDocument(_gathered(plans, is_one=submission.target.is_one))
    return plans


def plan_each(
    connection: Connection,
    occasion: Occasion,
    submissions: Sequence[Submission],
    terms: Terms,
    asker: Asker,
) -> list[Plan | AgentError]:
    """The plan of each, or why there is none. Each names one node; a node is looked at once."""
    names = dict.fromkeys(resolve_one(one.target) for one in submissions)
    known = {facts.id: facts for facts in facts_of(connection, list(names))}
    found: list[Plan | AgentError] = []
    for submission in submissions:
        node = resolve_one(submission.target)
        if node not in known:
            found.append(why_not_there(connection, node))
            continue
        try:
            plan = _Judging(occasion, submission, terms, asker).plan(known[node])
        except Refused as error:
            found.append(error)
            continue
        is_failed = plan.outcome is Outcome.FAILED
        found.append(InvalidDocument(plan.faults) if is_failed else plan)
    return found


class _Judging:
    """One dispatch, judged for node after node."""

    def __init__(
        self, occasion: Occasion, submission: Submission, terms: Terms, asker: Asker
    ) -> None:
        self._occasion = occasion
        self._submission = submission
        self._terms = terms
        self._asker = asker
        self._suiting = Suiting(submission.definition)
        self._for_rules = encode_definition(submission.definition)
        self._for_rules["action_type"] = submission.definition.kind
        self._correlation_id = submission.definition.correlation_id
        if self._correlation_id is None and not submission.target.is_one:
            self._correlation_id = occasion.new_id()

    def faults_on(self, node: NodeFacts) -> tuple[Fault, ...]:
        """Why the node cannot run it."""
        return self._suiting.faults_on(node)

    def plan(self, node: NodeFacts) -> Plan:
        """The node's part. Raises `Refused` where who asks may not approve it."""
        definition = replace(
            self._submission.definition,
            id=self._id(),
            node=node.id,
            correlation_id=self._correlation_id,
        )
        faults = self.faults_on(node)
        if faults:
            return _failed(definition, faults)
        try:
            verdict = self._terms.rules.judge(self._as_rules_see(definition), node.for_rules())
            if verdict.result is Result.SUPPRESS:
                return Plan(
                    node=node.id, definition=definition, outcome=Outcome.SUPPRESSED, verdict=verdict
                )
            definition = _delayed(definition, verdict, self._occasion)
        except InvalidDocument as error:
            return _failed(definition, error.faults)
        return self._approved(node, definition, verdict)

    def _id(self) -> str:
        is_one = self._submission.target.is_one
        return self._submission.definition.id if is_one else self._occasion.new_id()

    def _as_rules_see(self, definition: Definition) -> dict[str, Any]:
        own = {"id": definition.id, "action_id": definition.id, "node": definition.node}
        if definition.correlation_id is not None:
            own["correlation_id"] = definition.correlation_id
        return self._for_rules | own

    def _approved(self, node: NodeFacts, definition: Definition, verdict: Verdict) -> Plan:
        kind = (node.kinds or {}).get(definition.kind)
        judged = judge(
            definition,
            terms=self._terms.approvals,
            now=self._occasion.now,
            requested_by=self._asker.name,
            kind=kind,
            verdict=verdict,
            approve=self._submission.approve,
        )
        deduplicates = verdict.result is Result.DEDUPLICATE and self._submission.dedup_key is None
        return Plan(
            node=node.id,
            definition=judged.definition,
            outcome=outcome_of(judged.definition, self._occasion, waits=judged.decision.needed),
            verdict=verdict,
            judged=judged,
            dedup_key=likeness_of(judged.definition) if deduplicates else None,
            dedup_ttl_s=verdict.ttl_s or DEDUP_TTL_S_DEFAULT,
            kind=kind,
            reported_at=node.reported_at,
        )


def require_may_approve(submission: Submission, asker: Asker) -> None:
    """Raise `Refused` (403) where approving in the same step is not for this role."""
    if submission.approve and not asker.may_approve:
        raise Refused(
            "forbidden",
            f"approve: true needs the role approver, which {asker.name!r} does not have; without "
            "it the action waits for somebody who has",
        )


def outcome_of(definition: Definition, occasion: Occasion, *, waits: bool) -> Outcome:
    """What an accepted definition is answered. A recurring one is SCHEDULED, its node says when."""
    if waits:
        return Outcome.PENDING_APPROVAL
    is_later = definition.from_date is not None and definition.from_date > occasion.now
    return Outcome.SCHEDULED if definition.schedule or is_later else Outcome.QUEUED


def likeness_of(definition: Definition) -> str:
    """What a `deduplicate` rule takes for the same: node, kind and payload."""
    content = encode([definition.node, definition.kind, _sorted(definition.payload)])
    return sha256(content).hexdigest()


def _sorted(value: Any) -> Any:
    """The same JSON, whatever order its members were written in."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(entry) for entry in value] if isinstance(value, list) else value


def _delayed(definition: Definition, verdict: Verdict, occasion: Occasion) -> Definition:
    """Not before the rule's delay is over. Raises `InvalidDocument` where the window is by then."""
    if verdict.result is not Result.SCHEDULE or verdict.delay_s is None:
        return definition
    start = occasion.now + timedelta(seconds=verdict.delay_s)
    if definition.from_date is not None:
        start = max(start, definition.from_date)
    if definition.to_date is not None and definition.to_date <= start:
        text = (
            f"{format_instant(definition.to_date)} is not after {format_instant(start)}, until "
            f"when the rule {verdict.rule!r} delays it"
        )
        raise InvalidDocument([Fault("to_date", text)])
    return replace(definition, from_date=start)


def _failed(definition: Definition, faults: Sequence[Fault]) -> Plan:
    return Plan(
        node=definition.node or "",
        definition=definition,
        outcome=Outcome.FAILED,
        faults=tuple(faults),
    )


def _any_of(
    connection: Connection, occasion: Occasion, judging: _Judging, ids: Sequence[str]
) -> Plan:
    """A node at random among those that can; one that is silent only if all of those are."""
    silent: NodeFacts | None = None
    faults: list[Plan] = []
    for some in _shuffled(occasion, ids):
        for node in facts_of(connection, some):
            if judging.faults_on(node):
                faults.append(judging.plan(node))
            elif not node.is_silent:
                return _chosen(judging.plan(node))
            else:
                silent = silent or node
    if silent is not None:
        return _chosen(judging.plan(silent))
    raise InvalidDocument(_gathered(faults, is_one=False))


def _chosen(plan: Plan) -> Plan:
    if plan.outcome is Outcome.FAILED:
        raise InvalidDocument(plan.faults)
    return plan


def _shuffled(occasion: Occasion, ids: Sequence[str]) -> Iterator[list[str]]:
    left = list(ids)
    while left:
        some: list[str] = []
        while left and len(some) < LOOKED_AT_ONCE:
            at = occasion.random_bits(48) % len(left)
            left[at], left[-1] = left[-1], left[at]
            some.append(left.pop())
        yield some


def _gathered(plans: Iterable[Plan], *, is_one: bool) -> list[Fault]:
    if is_one:
        return [fault for plan in plans for fault in plan.faults]
    return gathered((plan.node, plan.faults) for plan in plans)
