"""What one event of a node changes: the row of the action that it is about. Pure but for the rows.

Which events are new was decided before (`events`), and when they are stored after (`pushes`).
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.core.nodes.incoming import Incoming
from agent.core.nodes.records import ActionRecord, Records
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow
from agent.domain.definition import Owner
from agent.domain.lifecycle import Reason, is_final
from agent.wire import messages

_UNKNOWN_OUTCOME = frozenset({Reason.RERUN.value, Reason.NEVER_STARTED.value})
"""It waits again after a restart. A node from a backup may know of it by the run alone, and no full
answer held it while it counted as started: so it is told the definition again. Rare, and a no-op
for every other node.
"""


def apply_event(
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


def concerned(event: Incoming) -> Iterator[str]:
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
