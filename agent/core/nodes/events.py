"""A push of events, applied once and in order, with the current status, in one transaction.

The number decides the place, the mark the identity: the same mark is the same event, under
whatever epoch it comes; another mark at a known place is another history.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from agent.core import journal
from agent.core.nodes.incoming import Incoming, Unplaceable, read_event
from agent.core.nodes.records import ActionRecord, Records
from agent.core.nodes.stream import enqueue_definition
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow
from agent.core.store.schema import agents, events
from agent.domain.definition import Owner
from agent.domain.errors import Fault, Refused
from agent.domain.lifecycle import Reason, is_final
from agent.wire import messages
from agent.wire.messages import ERROR_FORKED, ERROR_GAP, EVENTS_PER_PUSH_MAX, GAP, EventsPush

_MARKS = select(events.c.mark).where(
    events.c.agent_id == bindparam("agent"),
    events.c.mark.in_(bindparam("marks", expanding=True)),
)
_ADVANCE = (
    update(agents)
    .where(agents.c.id == bindparam("agent"))
    .values(event_seq=bindparam("seq"), last_seen_at=bindparam("now"))
)


_UNKNOWN_OUTCOME = frozenset({Reason.RERUN.value, Reason.NEVER_STARTED.value})
"""It waits again after a restart. A node from a backup may know of it by the run alone, and no full
answer held it while it counted as started: so it is told the definition again. Rare, and a no-op
for every other node.
"""


class EventsRefused(Refused):
    """Some of a push was refused; `acked` of it is durable, `expected` is what must come next."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        expected: int | None = None,
        acked: int | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        super().__init__(code, message)
        self.expected = expected
        self.acked = acked
        self.faults = tuple(faults)


@dataclass(slots=True)
class Receipt:
    """What a push did: a refusal is raised after the commit, what came before it is kept."""

    acked: int
    refusal: EventsRefused | None = None
    touched: set[str] = field(default_factory=set)
    stored: int = 0
    redelivered: bool = False
    """Whether something was put into the node's stream by it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A decoded push, up to the first event that has no readable place."""

    agent_epoch: str
    events: tuple[Incoming, ...]
    unplaceable: Fault | None = None


def read_batch(push: EventsPush) -> Batch:
    """Decode every event. Raises `EventsRefused` when there are too many."""
    if len(push.events) > EVENTS_PER_PUSH_MAX:
        raise EventsRefused("bad_events", f"at most {EVENTS_PER_PUSH_MAX} events are taken at once")
    found: list[Incoming] = []
    for index, raw in enumerate(push.events):
        try:
            found.append(read_event(raw))
        except Unplaceable as error:
            return Batch(push.agent_epoch, tuple(found), Fault(f"events[{index}]", str(error)))
    return Batch(push.agent_epoch, tuple(found))


def take_in_order(
    event_seq: int, batch: Sequence[Incoming], known_marks: Collection[str]
) -> tuple[list[Incoming], int, EventsRefused | None]:
    """The events to store, the number reached, and why the rest is not taken. Pure.

    A gap covers `first` to `last`; one that lies behind is a node's fold of what is stored here.
    Raises `EventsRefused`: forked, when a known number comes with an unknown mark; bad_events,
    when one mark names two events of the push.
    """
    fresh: list[Incoming] = []
    taken: dict[str, int] = {}
    for event in batch:
        expected = event_seq + 1
        if event.seq < expected:
            if event.mark not in known_marks and event.mark not in taken and event.type != GAP:
                raise EventsRefused(
                    ERROR_FORKED,
                    f"event {event.seq} is another one here; take a new agent_epoch, send the "
                    "state, then replay what you hold",
                )
            continue
        first = event.values["first"] if event.type == GAP else event.seq
        if first > expected:
            refusal = EventsRefused(
                ERROR_GAP,
                f"event {first} came where {expected} is next",
                expected=expected,
                acked=event_seq,
            )
            return fresh, event_seq, refusal
        if event.mark in taken:
            raise _mark_used_twice(f"{taken[event.mark]} and {event.seq} of this push")
        if event.mark not in known_marks:
            fresh.append(event)
            taken[event.mark] = event.seq
        event_seq = event.seq
    return fresh, event_seq, None


def _mark_used_twice(where: str) -> EventsRefused:
    return EventsRefused(
        "bad_events", f"one mark stands for two events, {where}; draw marks at random"
    )


def apply_events(
    connection: Connection, occasion: Occasion, agent: AnyRow, batch: Batch
) -> Receipt:
    """Store the push. Raises `EventsRefused` (forked, bad_events); then nothing changed."""
    if agent.agent_epoch != batch.agent_epoch:
        raise EventsRefused(
            ERROR_FORKED,
            "this agent_epoch is not known here; take a new one, send the state with it, then "
            "replay what you hold",
        )
    known = _known_marks(connection, agent, batch.events)
    fresh, seq, refusal = take_in_order(agent.event_seq, batch.events, known)
    receipt = Receipt(acked=seq, refusal=refusal, stored=len(fresh))
    if fresh:
        _store(connection, occasion, agent, batch.agent_epoch, fresh, receipt)
    if seq != agent.event_seq:
        connection.execute(_ADVANCE, {"agent": agent.id, "seq": seq, "now": occasion.now})
    if refusal is None and batch.unplaceable is not None:
        receipt.refusal = EventsRefused(
            "bad_events",
            f"{batch.unplaceable}; what came before it is stored",
            acked=seq,
            faults=[batch.unplaceable],
        )
    return receipt


def _known_marks(connection: Connection, agent: AnyRow, batch: Sequence[Incoming]) -> set[str]:
    """Marks that are stored already; only numbers at or below the highest ever seen can be."""
    highest = max(agent.event_seq, agent.replay_seq)
    maybe = [event.mark for event in batch if event.seq <= highest]
    if not maybe:
        return set()
    found = connection.execute(_MARKS, {"agent": agent.id, "marks": maybe})
    return set(found.scalars())


def _store(
    connection: Connection,
    occasion: Occasion,
    agent: AnyRow,
    epoch: str,
    fresh: list[Incoming],
    receipt: Receipt,
) -> None:
    records = Records(connection, agent.id, chain.from_iterable(map(_concerned, fresh)))
    rows: list[dict[str, Any]] = []
    for event in fresh:
        rows.append(
            {
                "agent_id": agent.id,
                "epoch": epoch,
                "seq": event.seq,
                "mark": event.mark,
                "type": event.type,
                "action_id": event.action_id,
                "at": event.at or occasion.now,
                "stored_at": occasion.now,
                "body": event.body,
            }
        )
        found = _apply(records, occasion, agent, event)
        if found is not None:
            rows.append(
                journal.row_of(
                    occasion, agent.id, journal.FOUND, found.id, {"status": found.status}
                )
            )
    try:
        journal.store(connection, rows)
    except IntegrityError:  # the one that was not looked for: of an event that lies far behind
        raise _mark_used_twice("one of this push and one that is stored") from None
    receipt.touched = records.save() | {event.action_id for event in fresh if event.action_id}
    for action_id in records.recalled():
        enqueue_definition(connection, occasion, agent.id, action_id)
        receipt.redelivered = True


def _apply(
    records: Records, occasion: Occasion, agent: AnyRow, event: Incoming
) -> ActionRecord | None:
    """Change the row that the event is about; returns it if it was lost and is found by this."""
    if event.action_id is None:
        return None
    was_lost = None
    record = records.held(event.action_id)
    match event.type:
        case messages.TRANSITION:
            record = record or records.add(event.action_id, Owner.NODE, occasion.now)
            was_lost = _transition(record, agent, event, occasion)
        case messages.LOCAL_DEFINITION:
            definition = event.values["definition"]
            record = records.owned(event.action_id, definition.owner)
            _stands(records, event, occasion)
            if definition.owner is Owner.CORE and definition.schedule is not None:
                return None  # the definition of a recurring action of the core's is the core's
            record = record or records.add(event.action_id, definition.owner, occasion.now)
            was_lost = _local_definition(record, agent, event, occasion)
            if "recurring" in event.values:
                record.stand(event.values["recurring"], event.at or occasion.now)
        case messages.DEFINITION_APPLIED:
            record = records.owned(event.action_id, Owner.CORE)
            if record is not None:
                was_lost = _clear_lost(record, agent, event.seq)
                record.applied(event.values["revision"])
                _stands(records, event, occasion)
        case messages.DEFINITION_REFUSED:
            record = records.owned(event.action_id, Owner.CORE)
            if record is not None:
                record.refuse(
                    event.values.get("revision", record.revision), event.values.get("faults", [])
                )
    return record if was_lost else None


def _concerned(event: Incoming) -> Iterator[str]:
    """The ids of the rows that an event may change: of an occurrence also its recurring action."""
    if event.action_id is not None:
        yield event.action_id
    if "rule" in event.values:
        yield event.values["definition"].recurring_id or event.action_id or ""


def _stands(records: Records, event: Incoming, occasion: Occasion) -> None:
    """How a recurring action stands with its node; an occurrence tells it of the one it is of."""
    told, definition = event.values.get("recurring"), event.values.get("definition")
    rule_id, owner = event.action_id, Owner.CORE
    if definition is not None:
        owner = definition.owner
        if "rule" in event.values and definition.recurring_id is not None:
            rule_id, told = definition.recurring_id, event.values["rule"]
        elif owner is Owner.NODE:
            return  # its row takes the whole event
    record = records.owned(rule_id, owner) if rule_id is not None else None
    if told is None or record is None or event.seq < record.status_seq:
        return
    record.status_seq = event.seq
    record.stand(told, event.at or occasion.now)


def _transition(record: ActionRecord, agent: AnyRow, event: Incoming, occasion: Occasion) -> bool:
    if event.seq <= record.status_seq:
        return False  # a state that the node sent included it
    was_lost = _clear_lost(record, agent, event.seq, final=is_final(event.values["to"]))
    if record.lost_at is not None:
        return False
    record.status_seq = event.seq
    record.execute(event.values["execution"], occasion.now)
    record.changed = True
    record.recalled |= event.values.get("reason") in _UNKNOWN_OUTCOME and _is_ours(record)
    return was_lost


def _is_ours(record: ActionRecord) -> bool:
    return record.owner == Owner.CORE.value and record.definition is not None


def _local_definition(
    record: ActionRecord, agent: AnyRow, event: Incoming, occasion: Occasion
) -> bool:
    definition = event.values["definition"]
    was_lost = _clear_lost(record, agent, event.seq)
    if record.definition is None or definition.revision >= record.revision:
        record.define(definition)
    if event.seq > record.status_seq:
        record.status_seq = event.seq
        record.execute(event.values["execution"], occasion.now)
    return was_lost


def _clear_lost(record: ActionRecord, agent: AnyRow, seq: int, *, final: bool = False) -> bool:
    """A report that is newer than the state it was missing from, or an end, is a sign of life."""
    if record.lost_at is None or (seq <= agent.as_of_seq and not final):
        return False
    record.lost_at = record.lost_reason = None
    record.changed = True
    return True
