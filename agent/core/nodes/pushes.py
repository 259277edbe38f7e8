"""Pushes of events, stored: of one node or of many, each once and in order, in one transaction.

What every statement costs on its way to the database is shared by as many nodes as are stored
together; what is decided of one push has nothing to do with the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from agent.core import journal
from agent.core.nodes.applying import apply_event, concerned
from agent.core.nodes.events import Batch, EventsRefused, Receipt, mark_used_twice, take_in_order
from agent.core.nodes.incoming import Incoming
from agent.core.nodes.records import Records, load_records, save_records
from agent.core.nodes.stream import enqueue_definition
from agent.core.occasion import Occasion
from agent.core.store.bulk import update_all
from agent.core.store.port import AnyRow
from agent.core.store.schema import agents, events
from agent.wire.messages import ERROR_FORKED

_MARKS = select(events.c.mark).where(
    events.c.agent_id == bindparam("agent"),
    events.c.mark.in_(bindparam("marks", expanding=True)),
)


@dataclass(frozen=True, slots=True)
class Push:
    """What a node that may speak has sent, and when. `agent` is its row, locked."""

    occasion: Occasion
    agent: AnyRow
    batch: Batch


@dataclass(slots=True)
class _Taken:
    """What is new in a push."""

    push: Push
    fresh: Sequence[Incoming]
    receipt: Receipt

    def concerned(self) -> set[str]:
        return set(chain.from_iterable(map(concerned, self.fresh)))


def apply_events(
    connection: Connection, occasion: Occasion, agent: AnyRow, batch: Batch
) -> Receipt:
    """Store one push. Raises `EventsRefused` (forked, bad_events); then nothing changed."""
    [outcome] = apply_pushes(connection, [Push(occasion, agent, batch)])
    if isinstance(outcome, EventsRefused):
        raise outcome
    return outcome


def apply_pushes(connection: Connection, pushes: Sequence[Push]) -> list[Receipt | EventsRefused]:
    """Store them, one of a node; the outcome of each, in their order.

    Raises `EventsRefused` if one of them only shows itself as refused by the database: then nothing
    of any of them may be committed, and each is to be stored alone.
    """
    outcomes: list[Receipt | EventsRefused] = []
    taken: list[_Taken] = []
    for push in pushes:
        try:
            taken.append(_take(connection, push))
            outcomes.append(taken[-1].receipt)
        except EventsRefused as refused:
            outcomes.append(refused)
    _store(connection, [one for one in taken if one.fresh])
    _advance(connection, taken)
    return outcomes


def _take(connection: Connection, push: Push) -> _Taken:
    """Raises `EventsRefused`."""
    agent, batch = push.agent, push.batch
    if agent.agent_epoch != batch.agent_epoch:
        raise EventsRefused(
            ERROR_FORKED,
            "this agent_epoch is not known here; take a new one, send the state with it, then "
            "replay what you hold",
        )
    known = _known_marks(connection, agent, batch.events)
    fresh, seq, refusal = take_in_order(agent.event_seq, batch.events, known)
    if refusal is None and batch.unplaceable is not None:
        refusal = EventsRefused(
            "bad_events",
            f"{batch.unplaceable}; what came before it is stored",
            acked=seq,
            faults=[batch.unplaceable],
        )
    return _Taken(push, fresh, Receipt(acked=seq, refusal=refusal, stored=len(fresh)))


def _known_marks(connection: Connection, agent: AnyRow, batch: Sequence[Incoming]) -> set[str]:
    """Marks that are stored already; only numbers at or below the highest ever seen can be."""
    highest = max(agent.event_seq, agent.replay_seq)
    maybe = [event.mark for event in batch if event.seq <= highest]
    if not maybe:
        return set()
    found = connection.execute(_MARKS, {"agent": agent.id, "marks": maybe})
    return set(found.scalars())


def _store(connection: Connection, taken: Sequence[_Taken]) -> None:
    if not taken:
        return
    loaded = load_records(connection, {one.push.agent.id: one.concerned() for one in taken})
    rows: list[Mapping[str, Any]] = []
    for one in taken:
        rows += _rows(one, loaded[one.push.agent.id])
    try:
        journal.store(connection, rows)
    except IntegrityError:  # the one that was not looked for: of an event that lies far behind
        raise mark_used_twice("one of this push and one that is stored") from None
    for one in taken:
        records = loaded[one.push.agent.id]
        one.receipt.touched = {record.id for record in records.changed()}
        one.receipt.touched |= {event.action_id for event in one.fresh if event.action_id}
    save_records(connection, loaded.values())
    for one in taken:
        agent_id = one.push.agent.id
        for action_id in loaded[agent_id].recalled():
            enqueue_definition(connection, one.push.occasion, agent_id, action_id)
            one.receipt.redelivered = True


def _rows(one: _Taken, records: Records) -> list[Mapping[str, Any]]:
    """The push's events, each applied, and what the core says to them."""
    occasion, agent = one.push.occasion, one.push.agent
    rows: list[Mapping[str, Any]] = []
    for event in one.fresh:
        rows.append(
            {
                "agent_id": agent.id,
                "epoch": one.push.batch.agent_epoch,
                "seq": event.seq,
                "mark": event.mark,
                "type": event.type,
                "action_id": event.action_id,
                "at": event.at or occasion.now,
                "stored_at": occasion.now,
                "body": event.body,
            }
        )
        found = apply_event(records, occasion, agent, event)
        if found is not None:
            body = {"status": found.status}
            rows.append(journal.row_of(occasion, agent.id, journal.FOUND, found.id, body))
    return rows


def _advance(connection: Connection, taken: Sequence[_Taken]) -> None:
    """How far each node's events are stored; and it was heard of."""
    moved = [
        {
            "id": one.push.agent.id,
            "event_seq": one.receipt.acked,
            "last_seen_at": one.push.occasion.now,
        }
        for one in taken
        if one.receipt.acked != one.push.agent.event_seq
    ]
    update_all(connection, agents, "id", moved)
