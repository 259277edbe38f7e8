"""Which nodes have a recurring action: what should be and what is, brought together.

`settle` is the only writer of its rows: every change (created, edited, paused, approved, deleted, a
node's labels) is a change of the rule, and then this. `reconcile_node` is called in the transaction
that changes a node's labels, its catalogue, or whether it is in service; it only looks, and leaves
the work to a timer, which takes the locks in their order and knows the rules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection

from agent.core import journal, timers
from agent.core.actions.placing import deliver_all, place_all
from agent.core.actions.planning import Outcome
from agent.core.actions.resolving import NODES_MAX
from agent.core.actions.terms import Asker, Terms
from agent.core.approvals.requests import Question, QuestionState, ask_all
from agent.core.nodes.facts import NodeFacts
from agent.core.nodes.freezes import LOCK
from agent.core.nodes.selection import facts_of, in_service, select_nodes
from agent.core.occasion import Occasion
from agent.core.people.principal import CORE
from agent.core.recurring import rows
from agent.core.recurring.judging import Judging, Part
from agent.core.recurring.rule import Rule, Sending
from agent.core.store.locks import lock_agents, serialize
from agent.core.store.port import AnyRow
from agent.core.store.schema import approvals
from agent.core.timers import TimerKind
from agent.core.wakeups import EVENTS, Topic, action_topic, agent_topic
from agent.domain.definition import Definition
from agent.domain.errors import Fault, InvalidDocument
from agent.wire.definition import decode_definition

SYSTEM = Asker(CORE.name)
AGAIN = timedelta(milliseconds=1)  # behind what is being fired now


@dataclass(slots=True)
class Settled:
    """What was done, by node; `parts` are those that were judged."""

    parts: list[Part] = field(default_factory=list)
    placed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)

    def topics(self, rule_id: str) -> list[Topic]:
        """Whom to wake after the commit."""
        nodes = [*self.placed, *self.changed, *self.withdrawn]
        return [*(agent_topic(node) for node in nodes), action_topic(rule_id), EVENTS]


def nodes_meant(
    connection: Connection, rule: Rule, among: Sequence[str] | None = None
) -> list[str]:
    """Which nodes it is for, of all or of these. Raises `InvalidDocument` where they are too many.

    A selector may mean none: nodes that come later will have it.
    """
    if rule.node is not None:
        return [rule.node] if among is None or rule.node in among else []
    assert rule.selector is not None, "a rule has one or the other"
    if among is not None:
        return [one.id for one in facts_of(connection, among) if is_for(rule, one)]
    ids = select_nodes(connection, rule.selector, NODES_MAX + 1)
    if len(ids) > NODES_MAX:
        text = f"matches more than {NODES_MAX} nodes; select fewer with each recurring action"
        raise InvalidDocument([Fault("selector", text)])
    return ids


def is_for(rule: Rule, node: NodeFacts) -> bool:
    """Whether it is for a node that is in service."""
    if rule.node is not None:
        return rule.node == node.id
    return rule.selector is not None and rule.selector.matches(node.labels)


def settle(
    connection: Connection,
    occasion: Occasion,
    rule: Rule,
    terms: Terms,
    by: str,
    *,
    why: str,
    among: Sequence[str] | None = None,
    judged: Sequence[Part] | None = None,
) -> Settled:
    """Bring the nodes' rows to what the rule says. The caller has its name by `serialize`.

    `judged`: the parts of all nodes that it is for, where they were judged anew; else those that
    have it keep it, and only who comes in is judged.
    """
    is_over = rule.deleted_at is not None or rule.waits
    wanted = [] if is_over else nodes_meant(connection, rule, among)
    locked = {*wanted, *rows.holders(connection, rule.id, among)}
    lock_agents(connection, locked)
    if not is_over and connection.dialect.name != "sqlite":
        # Labels may have changed until just now, and whoever changed them has seen the rows as they
        # still are; a node that is not locked here sees to it by its own timer.
        wanted = [node for node in nodes_meant(connection, rule, among) if node in locked]
    there = in_service(connection, wanted)  # behind the locks: some were, perhaps, until just now
    wanted = [node for node in wanted if node in there]
    held = {row.agent_id: row for row in rows.rows_on(connection, rule.id, among)}
    settled = Settled()
    if judged is None:
        fresh = [node for node in wanted if node not in held or not held[node].wanted]
        judging = Judging(occasion, rule, terms, SYSTEM)
        judged = [judging.on(node) for node in facts_of(connection, fresh)]
    settled.parts = list(judged)
    refused = {part.node for part in judged if part.outcome is not Outcome.SCHEDULED}
    known = {part.node for part in judged} | held.keys()
    keep = [node for node in wanted if node in known and node not in refused]
    sending = Sending(rule)
    settled.placed = [node for node in keep if node not in held]
    fresh_ones = [sending.on(node, rule.revision) for node in settled.placed]
    place_all(connection, occasion, fresh_ones, by)
    changes = _changed(rule, sending, keep, held, settled)
    changes += _withdrawn(rule, keep, held, settled)
    rows.redefine(connection, changes)
    deliver_all(connection, occasion, [row for row, _ in changes])
    told = [_event(occasion, row, definition, by, why) for row, definition in changes]
    if told:
        journal.store(connection, told)
    return settled


def _changed(
    rule: Rule, sending: Sending, keep: Iterable[str], held: dict[str, AnyRow], settled: Settled
) -> list[tuple[AnyRow, Definition]]:
    """Those that stay, and have something else now; what a node forgot it is sent again."""
    changes = []
    for node in keep:
        row = held.get(node)
        if row is None:
            continue
        same = row.wanted and sending.text(node, row.revision) == row.definition
        if same and row.lost_at is None:
            continue
        changes.append((row, sending.on(node, _next(rule, row))))
        settled.changed.append(node)
    return changes


def _withdrawn(
    rule: Rule, keep: Iterable[str], held: dict[str, AnyRow], settled: Settled
) -> list[tuple[AnyRow, Definition]]:
    kept = set(keep)
    changes = []
    for node, row in held.items():
        if node in kept or not row.wanted or row.definition is None:
            continue
        stored = decode_definition(msgspec.json.decode(row.definition))
        revision = _next(rule, row)
        changes.append((row, replace(stored, revision=revision, should_be_executed=False)))
        settled.withdrawn.append(node)
    return changes


def _next(rule: Rule, row: AnyRow) -> int:
    """A node takes higher revisions only; whatever it has had in between is behind the rule's."""
    return int(max(rule.revision, row.revision + 1))


def _event(
    occasion: Occasion, row: AnyRow, definition: Definition, by: str, why: str
) -> dict[str, Any]:
    body = {"requested_by": by, "revision": definition.revision, "why": why}
    if not definition.should_be_executed:
        body["withdrawn"] = True
    return journal.row_of(occasion, row.agent_id, journal.REDEFINED, row.id, body)


def put_question(
    connection: Connection, occasion: Occasion, rule: Rule, parts: Iterable[Part]
) -> None:
    """Nodes that came later may need what those before did not: then people are asked, once."""
    questions = [part.judged.question for part in parts if part.judged and part.judged.question]
    waiting = [part for part in parts if part.outcome is Outcome.PENDING_APPROVAL]
    if waiting and questions and not _was_asked(connection, rule, questions[0]):
        ask_all(connection, occasion, [questions[0]])


def _was_asked(connection: Connection, rule: Rule, question: Question) -> bool:
    query = (
        select(approvals.c.digest, approvals.c.state)
        .where(approvals.c.action_id == rule.id)
        .order_by(approvals.c.row.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    gone = (QuestionState.WITHDRAWN.value, QuestionState.SUPERSEDED.value)
    return row is not None and row.digest == question.digest and row.state not in gone


def reconcile_node(connection: Connection, occasion: Occasion, agent_id: str) -> None:
    """The node's labels, kinds or service changed: see to it, if any rule is concerned.

    Cheap where no recurring action has a selector. Called in the transaction of the change, which
    has the node's lock.
    """
    if _concerning(connection, agent_id):
        timers.arm(connection, TimerKind.RECURRING_NODE, agent_id, occasion.now)


def _concerning(connection: Connection, agent_id: str) -> list[str]:
    """The rules that the node is to have and has not, or the other way round."""
    found = rows.candidates(connection, agent_id)
    facts = facts_of(connection, [agent_id]) if found else []
    concerning = []
    for one in found:
        is_meant = bool(facts) and one.is_for(facts[0]) and not one.waits
        if is_meant != one.is_wanted or (is_meant and one.is_lost):
            concerning.append(one.id)
    return concerning


def settle_nodes(
    connection: Connection, occasion: Occasion, refs: Sequence[str], terms: Terms
) -> list[Topic]:
    """The handler of `RECURRING_NODE`: whatever these nodes are to have, and what not any more."""
    concerned = sorted({one for ref in refs for one in _concerning(connection, ref)})
    serialize(connection, *map(rows.lock_name, concerned))
    lock_agents(connection, refs)
    _look_again(connection, occasion, refs, concerned)
    topics: list[Topic] = []
    for rule_id in concerned:
        rule = rows.find_rule(connection, rule_id)
        settled = settle(
            connection, occasion, rule, terms, CORE.name, why="the node's labels", among=refs
        )
        put_question(connection, occasion, rule, settled.parts)
        topics += settled.topics(rule_id)
    return topics


def _look_again(
    connection: Connection, occasion: Occasion, refs: Sequence[str], concerned: Collection[str]
) -> None:
    """What changed while the locks were waited for may concern rules whose names are not held."""
    if connection.dialect.name == "sqlite":
        return
    later = occasion.now + AGAIN
    for ref in refs:
        if not set(_concerning(connection, ref)) <= set(concerned):
            timers.arm(connection, TimerKind.RECURRING_NODE, ref, later)


def settle_rules(
    connection: Connection, occasion: Occasion, refs: Sequence[str], terms: Terms
) -> list[Topic]:
    """The handler of `RECURRING_RULE`: rules that people have just approved."""
    # Whoever changes a node's labels now does not see yet that the rule is in force, nor it them.
    serialize(connection, LOCK, *(rows.lock_name(rule_id) for rule_id in refs))
    topics: list[Topic] = []
    for rule_id in sorted(refs):
        rule = rows.find_rule(connection, rule_id)
        judging = Judging(occasion, rule, terms, SYSTEM)
        nodes = nodes_meant(connection, rule)
        parts = [judging.on(node) for node in facts_of(connection, nodes)]
        settled = settle(connection, occasion, rule, terms, CORE.name, why="approved", judged=parts)
        topics += settled.topics(rule_id)
    return topics
