"""Putting decided definitions into the core's books: rows, events and deliveries, set-wise.

What waits for an approval gets its row and its event, and is in nobody's stream: `release` puts it
there. Nothing is decided here, no rule and no role is asked; the audit line is the caller's, who
knows what was asked for and writes it last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, update
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.nodes.incoming import definition_text, shown_from
from agent.core.nodes.stream import DEFINITION, enqueue_definition, put_deliveries
from agent.core.occasion import Occasion
from agent.core.store.bulk import insert_all
from agent.core.store.locks import IDS_PER_QUERY, lock_agents
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions, agents
from agent.domain.definition import ApprovalState, Definition
from agent.domain.lifecycle import ExecutionStatus

_ADVANCE = (
    update(agents)
    .where(agents.c.id.in_(bindparam("b_nodes", expanding=True)))
    .values(head_seq=agents.c.head_seq + bindparam("b_times"))
    .returning(agents.c.id, agents.c.head_seq)
)
_NEXT = (
    update(agents)
    .where(agents.c.id == bindparam("b_agent"))
    .values(head_seq=agents.c.head_seq + 1)
    .returning(agents.c.head_seq)
)
_DELIVERED = (
    update(actions)
    .where(actions.c.row == bindparam("b_row"))
    .values(delivered_seq=bindparam("b_seq"))
)


def place(connection: Connection, occasion: Occasion, definition: Definition, by: str) -> None:
    """Insert one definition (its `node` is set, its id is free) and deliver it, unless it waits."""
    place_all(connection, occasion, [definition], by)


def place_all(
    connection: Connection,
    occasion: Occasion,
    definitions: Sequence[Definition],
    by: str,
    noted: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """`place` for many, in a handful of statements however many they are.

    `noted` is what the event of an action says besides, by the action's id.
    """
    if not definitions:
        return
    delivered = [one for one in definitions if not waits(one)]
    refs = [(node_of(one), one.id) for one in delivered]
    seqs = dict(zip(map(id, delivered), _enqueue(connection, occasion, refs), strict=True))
    rows = [_row(occasion, one, seqs.get(id(one))) for one in definitions]
    insert_all(connection, actions, rows)
    journal.store(connection, [_event(occasion, one, by, noted or {}) for one in definitions])


def deliver_all(connection: Connection, occasion: Occasion, rows: Sequence[AnyRow]) -> None:
    """Deliver the current definitions of these rows of `actions`, as they are stored by now."""
    seqs = _enqueue(connection, occasion, [(row.agent_id, row.id) for row in rows])
    if rows:
        numbered = zip(rows, seqs, strict=True)
        connection.execute(_DELIVERED, [{"b_row": row.row, "b_seq": seq} for row, seq in numbered])


def release(
    connection: Connection, occasion: Occasion, row: AnyRow, definition: Definition
) -> None:
    """Put `definition` in force for the action of `row`, and into its node's stream.

    For what was approved: the definition carries the record. Also for an edit of what is on its
    node already; its revision is the higher one then.
    """
    rewrite(connection, row, definition)
    enqueue_definition(connection, occasion, row.agent_id, row.id)


def rewrite(connection: Connection, row: AnyRow, definition: Definition) -> None:
    """Store `definition` for the action of `row`; nobody is told of it."""
    approval = definition.approval
    connection.execute(
        update(actions)
        .where(actions.c.row == row.row)
        .values(
            kind=definition.kind,
            revision=definition.revision,
            definition=definition_text(definition),
            from_date=shown_from(definition),
            wanted=definition.should_be_executed,
            approval_state=None if approval is None else approval.state.value,
        )
    )


def waits(definition: Definition) -> bool:
    """Whether a person must decide first: it stays at the core until then."""
    approval = definition.approval
    return approval is not None and approval.state is not ApprovalState.APPROVED


def node_of(definition: Definition) -> str:
    """Where it is to run: what is placed has been given a node."""
    assert definition.node is not None, "targets are resolved before anything is placed"
    return definition.node


def _enqueue(
    connection: Connection, occasion: Occasion, refs: Sequence[tuple[str, str]]
) -> list[int]:
    """Put (node, action) pairs into the nodes' streams; the number of each, in order."""
    if not refs:
        return []
    lock_agents(connection, (node for node, _ in refs))
    seqs = _numbers(connection, [node for node, _ in refs])
    rows = [
        {
            "agent_id": node,
            "seq": seq,
            "mark": occasion.new_mark(),
            "what": DEFINITION,
            "ref": action_id,
        }
        for (node, action_id), seq in zip(refs, seqs, strict=True)
    ]
    put_deliveries(connection, rows)
    return seqs


def _numbers(connection: Connection, nodes: Sequence[str]) -> list[int]:
    """The next number of each node's stream, in order; a node may come several times."""
    if len(nodes) == 1:
        return [connection.execute(_NEXT, {"b_agent": nodes[0]}).scalar_one()]
    count = Counter(nodes)
    last: dict[str, int] = {}
    for times in sorted(set(count.values())):  # once each, as a rule: one statement for many
        last |= _advance(connection, [node for node in count if count[node] == times], times)
    given: Counter[str] = Counter()
    numbers = []
    for node in nodes:
        given[node] += 1
        numbers.append(last[node] - count[node] + given[node])
    return numbers


def _advance(connection: Connection, nodes: Sequence[str], times: int) -> dict[str, int]:
    """Move the heads of these streams; where they are then."""
    heads: dict[str, int] = {}
    for start in range(0, len(nodes), IDS_PER_QUERY):
        some = nodes[start : start + IDS_PER_QUERY]
        moved = connection.execute(_ADVANCE, {"b_nodes": some, "b_times": times})
        heads |= {row.id: row.head_seq for row in moved}
    return heads


def _row(occasion: Occasion, definition: Definition, seq: int | None) -> dict[str, Any]:
    approval = definition.approval
    return {
        "agent_id": definition.node,
        "id": definition.id,
        "owner": definition.owner.value,
        "created_at": occasion.now,
        "kind": definition.kind,
        "revision": definition.revision,
        "definition": definition_text(definition),
        "from_date": shown_from(definition),
        "wanted": definition.should_be_executed,
        "status": ExecutionStatus.NULL.value,
        "delivered_seq": seq,
        "correlation_id": definition.correlation_id,
        "recurring_id": definition.recurring_id,
        "retry_of": definition.retry_of,
        "service": definition.service,
        "approval_state": None if approval is None else approval.state.value,
    }


def _event(
    occasion: Occasion, definition: Definition, by: str, noted: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "requested_by": by,
        "kind": definition.kind,
        "revision": definition.revision,
        **noted.get(definition.id, {}),
    }
    if definition.approval is not None:
        body["approval"] = definition.approval.state.value
    return journal.row_of(occasion, definition.node or "", journal.DISPATCHED, definition.id, body)
