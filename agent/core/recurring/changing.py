"""Creating, editing, pausing and deleting a recurring action: each one write, whole or not at all.

An edit is judged like a new one. Where it needs a person, it waits at the core and what is in force
stays so; where a node cannot run it, that node loses it and the others do not wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.actions.planning import Outcome
from agent.core.actions.resolving import require_in_service
from agent.core.actions.settling import require_free
from agent.core.actions.submission import Submission
from agent.core.actions.terms import Asker, Terms
from agent.core.approvals.judging import Judged
from agent.core.approvals.requests import QuestionState, ask_all, close_open, withdraw
from agent.core.nodes.freezes import LOCK
from agent.core.nodes.selection import facts_of
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.recurring import rows
from agent.core.recurring.judging import Judging, Part, all_faults, record_of, strictest
from agent.core.recurring.membership import Settled, nodes_meant, settle
from agent.core.recurring.rule import Rule, template_of
from agent.core.store.locks import lock_agents, serialize
from agent.domain.errors import Fault, InvalidDocument, Refused
from agent.domain.recurring import PAUSED_WITHOUT_REASON
from agent.wire.definition import PAUSED_SCHEDULE

NODES_NAMED_MAX = 10  # in an error message; more would not be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What came of it. `judged` is the judgement of the whole, `question` what people call it."""

    rule: Rule
    parts: list[Part]
    judged: Judged
    settled: Settled = field(default_factory=Settled)
    question: str | None = None

    @property
    def outcome(self) -> Outcome:
        """Of the whole."""
        if self.question is not None or self.judged.decision.needed:
            return Outcome.PENDING_APPROVAL
        if self.rule.node is not None and self.parts[0].outcome is Outcome.SUPPRESSED:
            return Outcome.SUPPRESSED
        return Outcome.SCHEDULED


def plan(
    connection: Connection,
    occasion: Occasion,
    rule: Rule,
    terms: Terms,
    asker: Asker,
    *,
    approve: bool = False,
    is_edit: bool = False,
) -> Made:
    """What would come of the rule as it is here; nothing is stored.

    Raises `NotFound`, `Refused`, and `InvalidDocument` where no node that it is for can run it.
    """
    if rule.node is not None:
        require_in_service(connection, rule.node)
    judging = Judging(occasion, rule, terms, asker, approve=approve, is_edit=is_edit)
    parts = [judging.on(one) for one in facts_of(connection, nodes_meant(connection, rule))]
    if parts and all(part.outcome is Outcome.FAILED for part in parts):
        raise InvalidDocument(all_faults(parts))
    judged = strictest(judging.at_all(), parts)
    record = record_of(judged)
    final = replace(rule, definition=replace(rule.definition, approval=record))
    return Made(rule=final, parts=parts, judged=judged)


def rule_from(submission: Submission, occasion: Occasion, by: str) -> Rule:
    """The rule that a document asks for. Raises `InvalidDocument` with every fault."""
    definition, target = submission.definition, submission.target
    faults = []
    if definition.schedule is None:
        faults.append(Fault("schedule", "is missing; without it this is a dispatch"))
    if target.picks_any:
        faults.append(Fault("pick", "any is for one action; a recurring one is for all it matches"))
    if submission.dedup_key is not None:
        faults.append(Fault("dedup_key", "is for a dispatch; a recurring action is one by its id"))
    if faults or definition.schedule is None:
        raise InvalidDocument(faults)
    schedule = definition.schedule
    return Rule(
        definition=template_of(definition),
        node=target.node,
        selector=target.selector,
        created_at=occasion.now,
        created_by=by,
        updated_at=occasion.now,
        paused=(schedule.paused_reason or PAUSED_WITHOUT_REASON) if schedule.paused else None,
        paused_at=occasion.now if schedule.paused else None,
    )


def require_unused(connection: Connection, rule_id: str) -> None:
    """Raise `Refused`: the id is taken, by an action or by a recurring one, also a deleted one."""
    if rows.is_rule(connection, rule_id):
        rule = rows.find_rule(connection, rule_id)
        if rule.deleted_at is not None:
            text = "belonged to a recurring action that was deleted; its history stays under it"
        else:
            text = "is taken by a recurring action; change it with PUT (corectl recurring update)"
        raise Refused("exists", f"the id {rule_id!r} {text}; nothing was changed")
    require_free(connection, rule_id)


def create(
    connection: Connection, occasion: Occasion, submission: Submission, terms: Terms, asker: Asker
) -> Made:
    """Store it and deliver it, or put the question. Raises as `plan`, and `Refused` (`exists`)."""
    rule = rule_from(submission, occasion, asker.name)
    serialize(connection, rows.lock_name(rule.id))
    _hold_labels(connection, rule)
    require_unused(connection, rule.id)
    made = plan(connection, occasion, rule, terms, asker, approve=submission.approve)
    if made.outcome is Outcome.SUPPRESSED:
        return made  # nothing is stored
    rows.add(connection, made.rule)
    made = _in_force(connection, occasion, made, terms, asker.name, why="created")
    _tell(connection, occasion, journal.RECURRING_CREATED, made.rule, asker.name)
    _audit(connection, occasion, asker.name, "recurring_create", made)
    return made


def edit(
    connection: Connection,
    occasion: Occasion,
    rule_id: str,
    submission: Submission,
    terms: Terms,
    asker: Asker,
    *,
    expected: int | None,
) -> Made:
    """Put another definition in its place, for later instants. Raises as `create`."""
    current = rows.standing_rule(connection, rule_id)
    if expected is not None and expected != current.revision:
        raise Refused(
            "conflict",
            f"revision {expected} of {rule_id!r} is not the newest, {current.revision} is; read it "
            "again, then change it",
        )
    asked = rule_from(submission, occasion, asker.name)
    in_force = not current.waits
    rule = replace(
        current,
        definition=asked.definition,
        node=asked.node,
        selector=asked.selector,
        revision=current.revision + 1,
        updated_at=occasion.now,
        paused=asked.paused or current.paused,
        paused_at=asked.paused_at or current.paused_at,
    )
    _hold_labels(connection, rule)
    made = plan(
        connection, occasion, rule, terms, asker, approve=submission.approve, is_edit=in_force
    )
    if made.outcome is Outcome.SUPPRESSED:
        raise Refused(
            "suppressed",
            f"the rule {made.parts[0].verdict.rule!r} suppresses it on {rule.node!r}; nothing was "
            "changed",
        )
    lock_agents(connection, {*(part.node for part in made.parts), *_nodes_of(connection, current)})
    close_open(connection, occasion, None, rule_id, QuestionState.SUPERSEDED, by=asker.name)
    if in_force and made.judged.decision.needed:
        made = _asked(connection, occasion, replace(made, rule=current))
    else:
        rows.save(connection, made.rule)
        made = _in_force(connection, occasion, made, terms, asker.name, why="changed")
    _tell(connection, occasion, journal.RECURRING_CHANGED, made.rule, asker.name)
    _audit(connection, occasion, asker.name, "recurring_update", made)
    return made


def _hold_labels(connection: Connection, rule: Rule) -> None:
    """No node's labels change before the commit: who changes them must see the rule, or it them."""
    if rule.selector is not None:
        serialize(connection, LOCK)


def _nodes_of(connection: Connection, rule: Rule) -> set[str]:
    """Whoever has it: locked before its questions, as whoever cancels or decommissions does."""
    named = {rule.node} if rule.node is not None else set()
    return named | set(rows.holders(connection, rule.id))


def _in_force(
    connection: Connection, occasion: Occasion, made: Made, terms: Terms, by: str, *, why: str
) -> Made:
    if made.judged.decision.needed:
        return _asked(connection, occasion, made)
    settled = settle(connection, occasion, made.rule, terms, by, why=why, judged=made.parts)
    return replace(made, settled=settled)


def _asked(connection: Connection, occasion: Occasion, made: Made) -> Made:
    question = made.judged.question
    assert question is not None, "what needs a person has a question"
    return replace(made, question=ask_all(connection, occasion, [question])[0])


def pause(
    connection: Connection,
    occasion: Occasion,
    rule_id: str,
    reason: str | None,
    terms: Terms,
    by: str,
) -> tuple[Rule, Settled]:
    """Nothing more of it is planned. Raises `Refused` (`unsupported`): some node cannot hold it."""
    rule = rows.standing_rule(connection, rule_id)
    held = [row.agent_id for row in rows.rows_on(connection, rule_id) if row.wanted]
    require_feature(connection, held, PAUSED_SCHEDULE, "pause a recurring action for the core")
    text = reason or PAUSED_WITHOUT_REASON
    if rule.paused == text:
        return rule, Settled()
    paused_at = rule.paused_at or occasion.now
    rule = replace(rule, paused=text, paused_at=paused_at)
    return _repaused(connection, occasion, rule, terms, by, "pause")


def resume(
    connection: Connection, occasion: Occasion, rule_id: str, terms: Terms, by: str
) -> tuple[Rule, Settled]:
    """Planned again; what was missed is as after downtime. A node's own pause stays."""
    rule = rows.standing_rule(connection, rule_id)
    if rule.paused is None:
        return rule, Settled()
    rule = replace(rule, paused=None, paused_at=None)
    return _repaused(connection, occasion, rule, terms, by, "resume")


def _repaused(
    connection: Connection, occasion: Occasion, rule: Rule, terms: Terms, by: str, verb: str
) -> tuple[Rule, Settled]:
    rule = replace(rule, revision=rule.revision + 1, updated_at=occasion.now)
    rows.save(connection, rule)
    settled = settle(connection, occasion, rule, terms, by, why=f"{verb}d")
    kind = journal.RECURRING_PAUSED if verb == "pause" else journal.RECURRING_RESUMED
    _tell(connection, occasion, kind, rule, by)
    detail = {"reason": rule.paused, "nodes": len(settled.changed)}
    audit.record(connection, occasion, by, f"recurring_{verb}", rule.id, detail)
    return rule, settled


def delete(
    connection: Connection, occasion: Occasion, rule_id: str, terms: Terms, by: str
) -> tuple[Rule, Settled]:
    """Withdrawn everywhere: what waits of it ends, what runs goes on. Twice is once."""
    serialize(connection, rows.lock_name(rule_id))
    rule = rows.find_rule(connection, rule_id)
    if rule.deleted_at is not None:
        return rule, Settled()
    rule = replace(
        rule, deleted_at=occasion.now, updated_at=occasion.now, revision=rule.revision + 1
    )
    lock_agents(connection, _nodes_of(connection, rule))
    rows.save(connection, rule)
    withdraw(connection, occasion, None, rule_id, by=by, reason="deleted")
    settled = settle(connection, occasion, rule, terms, by, why="deleted")
    _tell(connection, occasion, journal.RECURRING_DELETED, rule, by)
    detail = {"nodes": len(settled.withdrawn)}
    audit.record(connection, occasion, by, "recurring_delete", rule_id, detail)
    return rule, settled


def require_feature(connection: Connection, nodes: Sequence[str], feature: str, what: str) -> None:
    """Raise `Refused` (`unsupported`), naming the nodes, where one of them lacks the feature."""
    lacking = [
        one.id
        for one in facts_of(connection, nodes)
        if one.kinds is not None and feature not in one.features
    ]
    if lacking:
        named = ", ".join(lacking[:NODES_NAMED_MAX])
        more = len(lacking) - NODES_NAMED_MAX
        also = f" and {more} more" if more > 0 else ""
        raise Refused(
            "unsupported",
            f"{named}{also} cannot {what}; upgrade them (they lack {feature!r}); nothing was "
            "changed",
        )


def _tell(connection: Connection, occasion: Occasion, kind: str, rule: Rule, by: str) -> None:
    body: dict[str, Any] = {
        "requested_by": by,
        "target": rule.target,
        "kind": rule.definition.kind,
        "revision": rule.revision,
        "state": rule.word,
    }
    journal.append(connection, occasion, "", kind, rule.id, body)


def _audit(connection: Connection, occasion: Occasion, by: str, verb: str, made: Made) -> None:
    counts: dict[str, int] = {}
    for part in made.parts:
        counts[part.outcome.value] = counts.get(part.outcome.value, 0) + 1
    detail: Mapping[str, Any] = {
        "kind": made.rule.definition.kind,
        "target": made.rule.target,
        "revision": made.rule.revision,
        "outcomes": counts,
        "approval_id": made.question,
    }
    audit.record(connection, occasion, by, verb, made.rule.id, detail)
