"""A node's whole state, in parts: what heals a fork, and finds what a node forgot (DESIGN §6).

It never moves the event cursor, except that a new `agent_epoch` enters here. Events up to
`as_of_seq` that arrive later are stored and no longer change the status of what was in the state.
An action that the node must have (delivered at or before the state's cursor) and that is in no
part of a complete snapshot is LOST: a word for people, taken back by any later sign of life.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, bindparam, or_, update
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.approvals.forgotten import recalled
from agent.core.nodes.admission import EPOCH, SPEAKER_COLUMNS, supersede, was_superseded
from agent.core.nodes.cursor import parse_cursor
from agent.core.nodes.events import EventsRefused
from agent.core.nodes.incoming import SEQ_MAX, StateItem, read_state_item
from agent.core.nodes.records import ActionRecord, Records, load_records, save_records
from agent.core.nodes.stream import enqueue_definition, mark_at
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions, agents
from agent.domain.definition import ApprovalState, Definition, Owner
from agent.domain.errors import Fault, InvalidDocument, Refused
from agent.domain.ids import is_id
from agent.domain.lifecycle import ExecutionStatus
from agent.wire.messages import (
    ERROR_FORKED,
    ERROR_GAP,
    GAP,
    STATE_PART_ACTIONS_MAX,
    StatePush,
)

EPOCH_CHARS_MAX = 64
_OPEN = [ExecutionStatus.NULL.value, ExecutionStatus.STARTED.value]

# Built once: every node that comes back from somewhere sends its state.
_OF_AGENT: Any = agents.c.id == bindparam("b_agent")
_OPEN_ONES: Any = (actions.c.agent_id == bindparam("b_agent"), actions.c.status.in_(_OPEN))
_BEGIN = (
    update(agents)
    .where(_OF_AGENT)
    .values(
        agent_epoch=bindparam("b_epoch"), event_seq=bindparam("b_seq"),
        replay_seq=bindparam("b_replay"), as_of_seq=0,
    )
    .returning(*SPEAKER_COLUMNS)
)  # fmt: skip
_FORGET_NUMBERS = update(actions).where(*_OPEN_ONES).values(status_seq=0)
_TAKE_PART = (
    update(agents)
    .where(_OF_AGENT)
    .values(
        as_of_seq=bindparam("b_as_of"), snapshot=bindparam("b_snapshot"),
        snapshot_stamp=bindparam("b_stamp"), snapshot_part=bindparam("b_part"),
        last_seen_at=bindparam("b_now"),
    )
)  # fmt: skip
_LOSE = (
    update(actions)
    .where(
        *_OPEN_ONES,
        actions.c.lost_at.is_(None),
        or_(actions.c.snapshot.is_(None), actions.c.snapshot != bindparam("b_stamp")),
        or_(  # what was not approved never left the core
            actions.c.approval_state.is_(None),
            actions.c.approval_state == ApprovalState.APPROVED.value,
        ),
        or_(
            and_(
                actions.c.owner == Owner.CORE.value,
                actions.c.delivered_seq <= bindparam("b_cursor"),
                actions.c.refused.is_(None),
            ),
            and_(  # the node itself spoke of it, whatever cursor it went back to since
                or_(
                    actions.c.owner == Owner.NODE.value,
                    actions.c.status == ExecutionStatus.STARTED.value,
                    actions.c.delivered_seq.is_(None),  # an occurrence, which it made itself
                ),
                actions.c.status_seq <= bindparam("b_as_of"),
            ),
        ),
    )
    .values(lost_at=bindparam("b_now"), lost_reason=bindparam("b_reason"))
    .returning(actions.c.id, actions.c.status)
)


@dataclass(slots=True)
class StateReceipt:
    """What a part did."""

    faults: list[Fault] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    redelivered: bool = False


def require_sound(push: StatePush) -> None:
    """The envelope. Raises `Refused`."""
    sound = (
        1 <= len(push.agent_epoch) <= EPOCH_CHARS_MAX
        and len(push.snapshot) <= EPOCH_CHARS_MAX
        and 1 <= push.first_seq <= push.as_of_seq + 1 <= SEQ_MAX
        and 0 <= push.part <= SEQ_MAX
        and len(push.actions) <= STATE_PART_ACTIONS_MAX
        and "\0" not in push.agent_epoch + push.snapshot + push.cursor
    )
    if not sound:
        raise Refused(
            "bad_request",
            "a state part needs 1 ≤ first_seq ≤ as_of_seq + 1, part ≥ 0, an agent_epoch and a "
            f"snapshot name of at most {EPOCH_CHARS_MAX} characters without NUL, and at most "
            f"{STATE_PART_ACTIONS_MAX} actions",
        )


def apply_state(
    connection: Connection, occasion: Occasion, agent: AnyRow, push: StatePush
) -> StateReceipt:
    """Take one part. Raises `EventsRefused`; then nothing changed."""
    if push.agent_epoch != agent.agent_epoch:
        agent = _introduce(connection, occasion, agent, push)
    stamp = _stamp(occasion, agent, push)
    if stamp is None:
        return StateReceipt()  # a repeat of a part whose answer was lost
    receipt = _apply_items(connection, occasion, agent, push, stamp)
    taken = {
        "b_agent": agent.id, "b_as_of": max(agent.as_of_seq, push.as_of_seq),
        "b_snapshot": _identity(push), "b_stamp": stamp, "b_part": push.part + 1,
        "b_now": occasion.now,
    }  # fmt: skip
    connection.execute(_TAKE_PART, taken)
    if push.last:
        receipt.touched |= _mark_lost(connection, occasion, agent, push, stamp)
    return receipt


def _introduce(
    connection: Connection, occasion: Occasion, agent: AnyRow, push: StatePush
) -> AnyRow:
    """A new history of this node begins: new, restored, or after a fork was seen."""
    if was_superseded(connection, agent.id, EPOCH, push.agent_epoch):
        raise EventsRefused(
            ERROR_FORKED, "this agent_epoch was superseded; take a new one and send the state again"
        )
    if agent.agent_epoch is not None:
        supersede(connection, occasion, agent.id, EPOCH, agent.agent_epoch)
    begun = {
        "b_agent": agent.id, "b_epoch": push.agent_epoch, "b_seq": push.first_seq - 1,
        "b_replay": max(agent.event_seq, agent.replay_seq),
    }  # fmt: skip
    current: AnyRow = connection.execute(_BEGIN, begun).one()
    # Numbers of the old history say nothing about the new one; what is final stays final.
    connection.execute(_FORGET_NUMBERS, {"b_agent": agent.id})
    journal.append(
        connection,
        occasion,
        agent.id,
        journal.EPOCH_CHANGED,
        body={
            "agent_epoch": push.agent_epoch,
            "previous": agent.agent_epoch,
            "stored_seq": agent.event_seq,
            "first_seq": push.first_seq,
        },
    )
    if push.first_seq > agent.event_seq + 1:
        first, last = agent.event_seq + 1, push.first_seq - 1
        reason = "before_enrolment" if agent.agent_epoch is None else "nobody_holds_it"
        body = {"first": first, "last": last, "count": last - first + 1, "reason": reason}
        journal.append(connection, occasion, agent.id, GAP, body=body)
    return current


def _identity(push: StatePush) -> str:
    """All parts of one snapshot agree in these; another value is another snapshot."""
    return f"{push.snapshot}|{push.as_of_seq}|{push.cursor[:128]}"


def _stamp(occasion: Occasion, agent: AnyRow, push: StatePush) -> str | None:
    """The mark that rows of this snapshot get, or None for a part that was applied already."""
    if push.part == 0:
        return occasion.new_mark()
    expected = agent.snapshot_part if agent.snapshot == _identity(push) else 0
    if push.part > expected:
        raise EventsRefused(
            ERROR_GAP,
            f"part {push.part} of the state came where part {expected} is next",
            expected=expected,
        )
    return None if push.part < expected else str(agent.snapshot_stamp)


def _apply_items(
    connection: Connection, occasion: Occasion, agent: AnyRow, push: StatePush, stamp: str
) -> StateReceipt:
    receipt = StateReceipt()
    items: list[StateItem] = []
    unreadable_ids: list[str] = []
    for index, raw in enumerate(push.actions):
        try:
            items.append(read_state_item(raw))
        except InvalidDocument as error:
            receipt.faults += [Fault(f"actions[{index}].{x.path}", x.message) for x in error.faults]
            named = raw.get("action_id") if isinstance(raw, dict) else None
            if isinstance(named, str) and is_id(named):
                unreadable_ids.append(named)
    ids = [item.action_id for item in items]
    records = load_records(connection, {agent.id: ids + unreadable_ids})[agent.id]
    notes: list[dict[str, Any]] = []
    for item in items:
        notes += _apply_item(records, occasion, agent.id, push.as_of_seq, item, stamp)
    for action_id in unreadable_ids:  # it is there, whatever is wrong with it: not lost
        record = records.held(action_id)
        if record is not None:
            record.snapshot, record.changed = stamp, True
    receipt.touched = {record.id for record in records.changed()}
    save_records(connection, [records])
    for action_id in records.recalled():
        enqueue_definition(connection, occasion, agent.id, action_id)
        receipt.redelivered = True
    if notes:
        journal.store(connection, notes)
    return receipt


def _apply_item(
    records: Records,
    occasion: Occasion,
    agent_id: str,
    as_of_seq: int,
    item: StateItem,
    stamp: str,
) -> list[dict[str, Any]]:
    """Change one row; returns the core's own events about it."""
    record, is_new = _record_of(records, occasion, item)
    record.snapshot, record.changed = stamp, True
    notes = []
    if record.lost_at is not None:
        record.lost_at = record.lost_reason = None
        notes.append(journal.row_of(occasion, agent_id, journal.FOUND, record.id))
    notes += _recall(occasion, agent_id, item, record)
    if _has_forgotten(item, record):
        record.recalled = True
    if item.definition is not None and _is_news(item, item.definition, record, is_new=is_new):
        record.define(item.definition)
    if as_of_seq < record.status_seq:
        return notes  # an event that is newer than this state was here first
    before = None if is_new else (record.status, record.reason, record.attempt)
    if item.owner is Owner.CORE:
        record.applied(item.revision)
    record.status_seq = as_of_seq
    record.execute(item.execution, occasion.now)
    if item.recurring is not None:
        record.stand(item.recurring, occasion.now)
    if before != (record.status, record.reason, record.attempt):
        body = {
            "from": before[0] if before else None,
            "to": record.status,
            "reason": record.reason,
            "attempt": record.attempt,
        }
        notes.append(journal.row_of(occasion, agent_id, journal.CORRECTED, record.id, body))
    return notes


def _has_forgotten(item: StateItem, record: ActionRecord) -> bool:
    """Whether a node that was put back to a backup would start what it has acknowledged as
    withdrawn: here it has ended, so no full answer holds it.
    """
    is_open = item.execution.execution_status.value in _OPEN
    return (
        item.owner is Owner.CORE
        and is_open
        and record.is_final
        and not record.wanted
        and record.definition is not None
    )


def _recall(
    occasion: Occasion, agent_id: str, item: StateItem, record: ActionRecord
) -> list[dict[str, Any]]:
    """An approval that this core has forgotten; the question about it ends by itself."""
    if item.owner is not Owner.CORE or item.definition is None:
        return []
    before = record.approval_state
    found = recalled(before, record.revision, item.definition, wanted=record.wanted)
    if found is None:
        return []
    record.define(found)
    record.ended_at = None
    record.recalled = True
    body = {"approval": {"from": before, "to": record.approval_state}, "wanted": record.wanted}
    return [journal.row_of(occasion, agent_id, journal.CORRECTED, record.id, body)]


def _is_news(
    item: StateItem, definition: Definition, record: ActionRecord, *, is_new: bool
) -> bool:
    """What the core made itself is, where it was put back to before it made that."""
    if item.owner is Owner.CORE and definition.recurring_id is None:
        return record.definition is None
    return is_new or item.revision >= record.revision


def _record_of(records: Records, occasion: Occasion, item: StateItem) -> tuple[ActionRecord, bool]:
    record = records.owned(item.action_id, item.owner)
    if record is not None:
        return record, False
    stub = records.owned(item.action_id, Owner.NODE)
    if item.owner is Owner.CORE and stub is not None and stub.definition is None:
        records.give_to_core(stub)
        return stub, False
    record = records.add(item.action_id, item.owner, occasion.now)
    record.revision = item.revision
    return record, True


def _mark_lost(
    connection: Connection, occasion: Occasion, agent: AnyRow, push: StatePush, stamp: str
) -> set[str]:
    """What a complete snapshot should have had and has not."""
    cursor_seq = _applied_seq(connection, agent, push.cursor)
    reason = "absent_from_state"
    asked = {
        "b_agent": agent.id, "b_stamp": stamp, "b_cursor": cursor_seq, "b_as_of": push.as_of_seq,
        "b_now": occasion.now, "b_reason": reason,
    }  # fmt: skip
    rows = connection.execute(_LOSE, asked).all()
    if not rows:
        return set()
    body = {"reason": reason, "as_of_seq": push.as_of_seq}
    notes = [
        journal.row_of(occasion, agent.id, journal.LOST, row.id, {**body, "status": row.status})
        for row in rows
    ]
    journal.store(connection, notes)
    return {row.id for row in rows}


def _applied_seq(connection: Connection, agent: AnyRow, text: str) -> int:
    """Up to which delivery the state speaks; -1 where its cursor proves nothing."""
    cursor = parse_cursor(text)
    if (
        cursor is None
        or cursor.resume is not None
        or cursor.epoch != agent.stream_epoch
        or cursor.seq > agent.head_seq
    ):
        return -1
    if cursor.seq >= agent.acked_seq and mark_at(connection, agent, cursor.seq) != cursor.mark:
        return -1
    return cursor.seq
