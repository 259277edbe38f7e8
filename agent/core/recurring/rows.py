"""The SQL of `recurring` and of its rows in `actions`; the only mapping to and from `Rule`.

Functions run inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    func,
    insert,
    literal,
    select,
    union_all,
    update,
)
from sqlalchemy.engine import Connection

from agent.core.nodes.facts import NodeFacts
from agent.core.nodes.incoming import definition_text
from agent.core.nodes.selector import Selector, parse_selector
from agent.core.recurring.rule import Rule
from agent.core.store.locks import IDS_PER_QUERY, serialize
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions, agents, recurring
from agent.domain.definition import ApprovalState, Definition, Owner
from agent.domain.errors import NotFound, Refused, shown
from agent.wire.definition import decode_definition

RULES_MAX = 10_000  # that are not deleted: each is looked at when a node's labels change
_decode = msgspec.json.Decoder().decode
_OF_CORE = actions.c.owner == Owner.CORE.value
_WHO = (recurring.c.id, recurring.c.node, recurring.c.selector, recurring.c.definition)
_ON = (
    actions.c.row,
    actions.c.agent_id,
    actions.c.id,
    actions.c.kind,
    actions.c.revision,
    actions.c.revision_applied,
    actions.c.definition,
    actions.c.wanted,
    actions.c.lost_at,
    actions.c.delivered_seq,
    actions.c.refused,
    actions.c.standing,
    actions.c.created_at,
)


def lock_name(rule_id: str) -> str:
    """What writers of one rule queue for; the same as for an action of that id."""
    return f"action:{rule_id}"


def find_rule(connection: Connection, rule_id: str) -> Rule:
    """One, deleted or not. Raises `NotFound`."""
    row = connection.execute(select(recurring).where(recurring.c.id == rule_id)).first()
    if row is None:
        raise NotFound(
            f"there is no recurring action {shown(rule_id)} of the core's; corectl recurring list "
            "shows them"
        )
    return rule_of(row)


def standing_rule(connection: Connection, rule_id: str) -> Rule:
    """One that can be changed, and nobody else changes it before the commit.

    Raises `NotFound`, `Refused` (`deleted`).
    """
    serialize(connection, lock_name(rule_id))
    rule = find_rule(connection, rule_id)
    if rule.deleted_at is not None:
        raise Refused(
            "deleted",
            f"the recurring action {rule_id!r} was deleted; its history stays, and a new one needs "
            "another id",
        )
    return rule


def is_rule(connection: Connection, rule_id: str) -> bool:
    """Whether a recurring action has, or had, this id."""
    found = connection.execute(select(recurring.c.id).where(recurring.c.id == rule_id)).first()
    return found is not None


def rule_of(row: AnyRow) -> Rule:
    """The row as a value."""
    return Rule(
        definition=decode_definition(_decode(row.definition)),
        node=row.node,
        selector=_selector(row.selector),
        revision=row.revision,
        paused=row.paused,
        paused_at=row.paused_at,
        backfills=row.backfills,
        created_at=row.created_at,
        created_by=row.created_by,
        updated_at=row.updated_at,
        deleted_at=row.deleted_at,
    )


def _values(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "definition": definition_text(rule.definition),
        "node": rule.node,
        "selector": None if rule.selector is None else str(rule.selector),
        "revision": rule.revision,
        "paused": rule.paused,
        "paused_at": rule.paused_at,
        "backfills": rule.backfills,
        "created_at": rule.created_at,
        "created_by": rule.created_by,
        "updated_at": rule.updated_at,
        "deleted_at": rule.deleted_at,
        "correlation_id": rule.definition.correlation_id,
    }


def add(connection: Connection, rule: Rule) -> None:
    """A new one; its id is free. Raises `Refused` where there are too many."""
    standing = select(recurring.c.id).where(recurring.c.deleted_at.is_(None)).limit(RULES_MAX)
    count = connection.execute(select(func.count()).select_from(standing.subquery())).scalar_one()
    if count >= RULES_MAX:
        raise Refused(
            "too_many", f"there are {RULES_MAX} recurring actions already; delete some first"
        )
    connection.execute(insert(recurring), [_values(rule)])


def save(connection: Connection, rule: Rule) -> None:
    """Replace its row."""
    connection.execute(update(recurring).where(recurring.c.id == rule.id).values(**_values(rule)))


def rows_on(
    connection: Connection, rule_id: str, nodes: Sequence[str] | None = None
) -> list[AnyRow]:
    """What nodes have of it: all of them, or these; withdrawn ones too."""
    query = select(*_ON).where(actions.c.id == rule_id, _OF_CORE).order_by(actions.c.agent_id)
    if nodes is None:
        return list(connection.execute(query).all())
    found: list[AnyRow] = []
    for start in range(0, len(nodes), IDS_PER_QUERY):
        some = nodes[start : start + IDS_PER_QUERY]
        found += connection.execute(query.where(actions.c.agent_id.in_(some))).all()
    return found


def page_on(connection: Connection, rule_id: str, after: str, limit: int) -> list[AnyRow]:
    """The same, by node, a page at a time, with how far each node has acknowledged."""
    query = (
        select(*_ON, agents.c.acked_seq, agents.c.silent_at)
        .join(agents, agents.c.id == actions.c.agent_id)
        .where(actions.c.id == rule_id, _OF_CORE, actions.c.agent_id > after)
        .order_by(actions.c.agent_id)
        .limit(limit)
    )
    return list(connection.execute(query).all())


def count_on(connection: Connection, rule_id: str, most: int) -> int:
    """How many nodes are to have it, counted as far as `most`."""
    some = (
        select(literal(1))
        .where(actions.c.id == rule_id, _OF_CORE, actions.c.wanted.is_(True))
        .limit(most)
    )
    return int(connection.execute(select(func.count()).select_from(some.subquery())).scalar_one())


def holders(connection: Connection, rule_id: str, nodes: Sequence[str] | None = None) -> list[str]:
    """The nodes that have, or had, it: all of them, or of these."""
    query = select(actions.c.agent_id).where(actions.c.id == rule_id, _OF_CORE)
    if nodes is not None:
        query = query.where(actions.c.agent_id.in_(nodes))
    return list(connection.execute(query).scalars())


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule as far as it decides whether a node is to have it, and what that node has of it."""

    id: str
    node: str | None
    selector: Selector | None
    waits: bool
    is_wanted: bool = False
    is_lost: bool = False

    def is_for(self, node: NodeFacts) -> bool:
        """Whether it is for this node, which is in service."""
        if self.selector is None:
            return self.node == node.id
        return self.selector.matches(node.labels)


def candidates(connection: Connection, agent_id: str) -> list[Candidate]:
    """The rules that may be for this node: those of its name, and all that have a selector."""
    return [
        Candidate(
            row.id, row.node, _selector(row.selector), _waits(row.definition),
            bool(row.wanted), row.lost_at is not None,
        )
        for row in connection.execute(_candidates(), {"agent": agent_id})
    ]  # fmt: skip


@cache
def _candidates() -> Select[Any]:
    """Built once: every report of a node asks."""
    agent: Any = bindparam("agent")
    held = and_(actions.c.agent_id == agent, actions.c.id == recurring.c.id, _OF_CORE)
    return (
        select(*_WHO, actions.c.wanted, actions.c.lost_at)
        .select_from(recurring.outerjoin(actions, held))
        .where(_may_be_for([agent]))
        .order_by(recurring.c.id)
    )


def _may_be_for(nodes: Sequence[Any]) -> ColumnElement[bool]:
    """Two looks into an index: the rules that name their node, and are many, are not read."""
    stands = recurring.c.deleted_at.is_(None)
    selecting = select(recurring.c.id).where(recurring.c.selector.is_not(None), stands)
    named = select(recurring.c.id).where(recurring.c.node.in_(nodes), stands)
    return recurring.c.id.in_(union_all(selecting, named))


class _Approval(msgspec.Struct):
    state: str = ""


class _Told(msgspec.Struct):
    """Of a stored definition what says whether it waits: it is read for every report of a node."""

    approval: _Approval | None = None


_read_told = msgspec.json.Decoder(_Told).decode


def _waits(definition: str) -> bool:
    approval = _read_told(definition).approval
    return approval is not None and approval.state != ApprovalState.APPROVED.value


@lru_cache(RULES_MAX)
def _parsed(text: str) -> Selector:
    return parse_selector(text)


def _selector(text: str | None) -> Selector | None:
    return None if text is None else _parsed(text)


_REDEFINE = (
    update(actions)
    .where(actions.c.row == bindparam("b_row"))
    .values(
        {
            name: bindparam(f"b_{name}")
            for name in ("kind", "revision", "definition", "wanted", "approval_state")
        }
        | {"requested": None}
    )
)


def redefine(connection: Connection, changes: Iterable[tuple[AnyRow, Definition]]) -> None:
    """Other definitions for rows of it; delivering them is the caller's."""
    moved = [
        {
            "b_row": row.row,
            "b_kind": definition.kind,
            "b_revision": definition.revision,
            "b_definition": definition_text(definition),
            "b_wanted": definition.should_be_executed,
            "b_approval_state": definition.approval.state.value if definition.approval else None,
        }
        for row, definition in changes
    ]
    if moved:
        connection.execute(_REDEFINE, moved)
