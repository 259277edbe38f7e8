"""The stream to a node, as rows: put something into it, acknowledge, fork.

The number comes from a counter on the agent's row, in the transaction of the change itself: so
nothing commits behind a cursor that was already handed out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.nodes.cursor import Cursor, Stream
from agent.core.occasion import Occasion
from agent.core.store.bulk import insert_all
from agent.core.store.locks import IDS_PER_QUERY
from agent.core.store.notices import announce
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions, agents, deliveries, requests
from agent.core.wakeups import agent_topic
from agent.domain.definition import Owner
from agent.wire.strict_json import encode_text

DEFINITION = "definition"
REQUEST = "request"

_NEXT_SEQ = (
    update(agents)
    .where(agents.c.id == bindparam("agent"))
    .values(head_seq=agents.c.head_seq + 1)
    .returning(agents.c.head_seq)
)
_NEXT_SEQS = (
    update(agents)
    .where(agents.c.id.in_(bindparam("agents", expanding=True)))
    .values(head_seq=agents.c.head_seq + 1)
    .returning(agents.c.id, agents.c.head_seq)
)
_MARK_AT = select(deliveries.c.mark).where(
    deliveries.c.agent_id == bindparam("agent"), deliveries.c.seq == bindparam("seq")
)


def enqueue(connection: Connection, occasion: Occasion, agent_id: str, what: str, ref: str) -> int:
    """Give the change the next number of this node's stream."""
    seq: int = connection.execute(_NEXT_SEQ, {"agent": agent_id}).scalar_one()
    row = {
        "agent_id": agent_id,
        "seq": seq,
        "mark": occasion.new_mark(),
        "what": what,
        "ref": ref,
    }
    put_deliveries(connection, [row])
    return seq


def put_deliveries(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write numbered deliveries: the one place that does, so that every node of them is woken."""
    insert_all(connection, deliveries, rows)
    announce(connection, {agent_topic(row["agent_id"]): None for row in rows})


def enqueue_definition(
    connection: Connection, occasion: Occasion, agent_id: str, action_id: str
) -> None:
    """Deliver the action's current definition."""
    seq = enqueue(connection, occasion, agent_id, DEFINITION, action_id)
    connection.execute(
        update(actions)
        .where(
            actions.c.agent_id == agent_id,
            actions.c.id == action_id,
            actions.c.owner == Owner.CORE.value,
        )
        .values(delivered_seq=seq)
    )


def enqueue_request(
    connection: Connection,
    occasion: Occasion,
    agent_id: str,
    kind: str,
    *,
    action_id: str | None = None,
    by: str | None = None,
    reason: str | None = None,
    args: Mapping[str, Any] | None = None,
) -> str:
    """Ask the node for something; returns the request's id."""
    asked = Asked(kind, action_id=action_id, by=by, reason=reason, args=args)
    return enqueue_requests(connection, occasion, [agent_id], asked)[agent_id]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a node; `args` is what the type needs besides."""

    kind: str
    action_id: str | None = None
    by: str | None = None
    reason: str | None = None
    args: Mapping[str, Any] | None = None


def enqueue_requests(
    connection: Connection, occasion: Occasion, agent_ids: Sequence[str], asked: Asked
) -> dict[str, str]:
    """Ask all of these nodes the same, in a few statements; the request's id of each."""
    made: dict[str, str] = {}
    args = None if asked.args is None else encode_text(asked.args)
    for start in range(0, len(agent_ids), IDS_PER_QUERY):
        numbered = connection.execute(
            _NEXT_SEQS, {"agents": agent_ids[start : start + IDS_PER_QUERY]}
        )
        seqs = {row.id: row.head_seq for row in numbered.all()}
        ids = {agent_id: occasion.new_id() for agent_id in sorted(seqs)}
        put_deliveries(
            connection,
            [
                {
                    "agent_id": agent_id,
                    "seq": seqs[agent_id],
                    "mark": occasion.new_mark(),
                    "what": REQUEST,
                    "ref": ids[agent_id],
                }
                for agent_id in ids
            ],
        )
        connection.execute(
            insert(requests),
            [
                {
                    "id": ids[agent_id],
                    "agent_id": agent_id,
                    "type": asked.kind,
                    "action_id": asked.action_id,
                    "by": asked.by,
                    "reason": asked.reason,
                    "created_at": occasion.now,
                    "seq": seqs[agent_id],
                    "args": args,
                }
                for agent_id in ids
            ],
        )
        made |= ids
    return made


def ask_for_state(
    connection: Connection, occasion: Occasion, agent_id: str, *, by: str, reason: str | None = None
) -> str:
    """Have the node send everything; one open request is enough. Returns the request's id."""
    waiting = select(requests.c.id).where(
        requests.c.agent_id == agent_id,
        requests.c.acked_at.is_(None),
        requests.c.type == "send_state",
    )
    found = connection.execute(waiting).scalar()
    if found is not None:
        return str(found)
    return enqueue_request(connection, occasion, agent_id, "send_state", by=by, reason=reason)


def stream_of(connection: Connection, agent: AnyRow) -> Stream:
    """The stream as the core knows it."""
    head_mark = mark_at(connection, agent, agent.head_seq)
    assert head_mark is not None, "the newest delivery has a row, or it was acknowledged"
    return Stream(agent.stream_epoch, agent.acked_seq, agent.acked_mark, agent.head_seq, head_mark)


def mark_at(connection: Connection, agent: AnyRow, seq: int) -> str | None:
    """The mark of a delivery, None for one that was acknowledged and pruned, or never was."""
    if seq == agent.acked_seq:
        return str(agent.acked_mark)
    mark: str | None = connection.execute(_MARK_AT, {"agent": agent.id, "seq": seq}).scalar()
    return mark


def acknowledge(connection: Connection, occasion: Occasion, agent: AnyRow, cursor: Cursor) -> None:
    """Everything up to the cursor is durable on the node: forget it here."""
    connection.execute(
        update(agents)
        .where(agents.c.id == agent.id)
        .values(acked_seq=cursor.seq, acked_mark=cursor.mark)
    )
    connection.execute(
        delete(deliveries).where(deliveries.c.agent_id == agent.id, deliveries.c.seq <= cursor.seq)
    )
    connection.execute(
        update(requests)
        .where(
            requests.c.agent_id == agent.id,
            requests.c.acked_at.is_(None),
            requests.c.seq <= cursor.seq,
        )
        .values(acked_at=occasion.now)
    )


def fork(connection: Connection, occasion: Occasion, agent: AnyRow, presented: Cursor) -> None:
    """Two histories met: begin a new epoch, and ask the node for everything it has.

    The full answer that follows covers all that was in the old one.
    """
    connection.execute(
        update(agents)
        .where(agents.c.id == agent.id)
        .values(
            stream_epoch=occasion.new_mark(),
            acked_seq=agent.head_seq,
            acked_mark=occasion.new_mark(),
        )
    )
    connection.execute(delete(deliveries).where(deliveries.c.agent_id == agent.id))
    journal.append(
        connection,
        occasion,
        agent.id,
        journal.STREAM_FORKED,
        body={"presented": str(presented), "head_seq": agent.head_seq},
    )
    ask_for_state(connection, occasion, agent.id, by="core", reason="stream forked")
