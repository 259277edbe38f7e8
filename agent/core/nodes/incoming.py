"""What a node reports, decoded: one event at a time, so that a bad one poisons nobody. Pure.

An event whose number and mark can be read has a place in the history, whatever its body is like:
a bad body is kept as `unreadable`. One without a readable number has no place; it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agent.domain.definition import Definition, Owner
from agent.domain.errors import Fault, InvalidDocument, shown
from agent.domain.ids import is_id
from agent.domain.lifecycle import ExecutionStatus
from agent.wire import fields as f
from agent.wire import strict_json
from agent.wire.definition import REVISION_MAX, decode_definition, encode_definition
from agent.wire.execution import Execution, decode_execution
from agent.wire.fields import Field, Reader, read_fields
from agent.wire.messages import (
    DEFINITION_APPLIED,
    DEFINITION_REFUSED,
    GAP,
    LOCAL_DEFINITION,
    TRANSITION,
    UNREADABLE,
    plain_faults,
)

SEQ_MAX = 2**53
MARK_CHARS_MAX = 64
EVENT_BYTES_MAX = 192 * 1024  # a local definition with everything at its largest
RAW_CHARS_KEPT = 16 * 1024
_ENVELOPE = frozenset({"seq", "mark", "type", "at", "action_id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One event. `values` are the decoded members of its type; `body` is what is stored."""

    seq: int
    mark: str
    type: str
    at: datetime | None
    action_id: str | None
    values: Mapping[str, Any]
    body: str


class Unplaceable(Exception):
    """The event's number or mark cannot be read."""


def _definition(value: Any) -> Definition:
    """What the node itself defined: its own, and the occurrences of whatever has a schedule.

    Of a recurring action of the core's it tells how that stands; the definition is the core's.
    """
    definition = decode_definition(value, owner=Owner.NODE.value)
    made_here = definition.recurring_id is not None or definition.schedule is not None
    if definition.owner is not Owner.NODE and not made_here:
        raise ValueError("owner must be 'node': the core knows its own definitions")
    return definition


def _verdict(value: Any) -> str:
    text: str = f.text(32)(value)
    return text


def _fault_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"must be a list, not {shown(value)}")
    return value[:50]


_MADE = ("recurring_id", "schedule")
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
_EVIDENCE_BYTES_MAX = 16 * 1024
_execution: Reader = decode_execution
_BODIES: Mapping[str, Mapping[str, Field]] = {
    TRANSITION: {
        "action_id": Field(f.action_id, required=True),
        "from": Field(f.choice(ExecutionStatus), required=True),
        "to": Field(f.choice(ExecutionStatus), required=True),
        "reason": Field(f.text(64)),
        "attempt": Field(f.integer(0, 2**31)),
        "revision": Field(f.integer(1, REVISION_MAX)),
        "execution": Field(_execution, required=True),
        "evidence": Field(f.json_object(_EVIDENCE_BYTES_MAX)),
    },
    LOCAL_DEFINITION: {
        "action_id": Field(f.action_id, required=True),
        "definition": Field(_definition, required=True),
        "execution": Field(_execution, required=True),
        "recurring": Field(f.json_object(_EVIDENCE_BYTES_MAX)),
        "rule": Field(f.json_object(_EVIDENCE_BYTES_MAX)),
    },
    DEFINITION_APPLIED: {
        "action_id": Field(f.action_id, required=True),
        "revision": Field(f.integer(1, REVISION_MAX), required=True),
        "verdict": Field(_verdict, required=True),
        "recurring": Field(f.json_object(_EVIDENCE_BYTES_MAX)),
    },
    DEFINITION_REFUSED: {
        "action_id": Field(f.text(256)),  # it may be what was wrong with the definition
        "revision": Field(f.integer(0, REVISION_MAX)),
        "faults": Field(_fault_list),
    },
    GAP: {
        "first": Field(f.integer(1, SEQ_MAX), required=True),
        "last": Field(f.integer(1, SEQ_MAX), required=True),
        "reason": Field(f.text(256)),
    },
}
_ITEM: Mapping[str, Field] = {
    "action_id": Field(f.action_id, required=True),
    "revision": Field(f.integer(1, REVISION_MAX), required=True),
    "owner": Field(f.choice(Owner), required=True),
    "execution": Field(_execution, required=True),
    "recurring": Field(f.json_object(_EVIDENCE_BYTES_MAX)),
}


def read_event(raw: Any) -> Incoming:
    """One event of a push. Raises `Unplaceable`; any other fault makes it `unreadable`."""
    seq, mark = _place(raw)
    kind = raw.get("type")
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    at: datetime | None = None
    try:
        at = f.instant(raw.get("at"))
    except ValueError as error:
        faults.append(Fault("at", str(error)))
    known = _BODIES.get(kind) if isinstance(kind, str) else None
    if known is None:
        faults.append(Fault("type", f"{shown(kind)} is not an event of this version"))
    else:
        values, more = read_fields(raw, known)
        faults += more
    body = strict_json.encode_text({k: v for k, v in raw.items() if k not in _ENVELOPE})
    if len(body) > EVENT_BYTES_MAX:
        faults.append(Fault("", f"is {len(body)} characters; at most {EVENT_BYTES_MAX} are kept"))
    if not faults:
        faults += _joint_faults(str(kind), seq, values)
    if faults:
        return _unreadable(raw, seq, mark, at, faults)
    return Incoming(
        seq=seq,
        mark=mark,
        type=str(kind),
        at=at,
        action_id=values.get("action_id"),
        values=values,
        body=body,
    )


def _place(raw: Any) -> tuple[int, str]:
    if not isinstance(raw, dict):
        raise Unplaceable(f"an event is an object, not {shown(raw)}")
    seq, mark = raw.get("seq"), raw.get("mark")
    if isinstance(seq, bool) or not isinstance(seq, int) or not 1 <= seq <= SEQ_MAX:
        raise Unplaceable(f"seq must be a whole number from 1, not {shown(seq)}")
    if not isinstance(mark, str) or not 1 <= len(mark) <= MARK_CHARS_MAX or "\0" in mark:
        raise Unplaceable(f"mark must be a short text, not {shown(mark)} (seq {seq})")
    return seq, mark


def _joint_faults(kind: str, seq: int, values: Mapping[str, Any]) -> list[Fault]:
    if kind == GAP and not values["first"] <= values["last"] == seq:
        return [Fault("last", "a gap has first ≤ last, and its own seq is last")]
    if kind == TRANSITION and values["execution"].execution_status is not values["to"]:
        return [Fault("execution.execution_status", "disagrees with to")]
    if kind == LOCAL_DEFINITION and values["definition"].id != values["action_id"]:
        return [Fault("definition.id", "disagrees with action_id")]
    return []


def _unreadable(
    raw: dict[str, Any], seq: int, mark: str, at: datetime | None, faults: list[Fault]
) -> Incoming:
    action_id = raw.get("action_id")
    shortened = tuple(faults[:50])
    return Incoming(
        seq=seq,
        mark=mark,
        type=UNREADABLE,
        at=at,
        action_id=action_id if isinstance(action_id, str) and is_id(action_id) else None,
        values={},
        body=strict_json.encode_text(
            {
                "faults": plain_faults(shortened),
                "raw": strict_json.encode_text(raw)[:RAW_CHARS_KEPT],
            }
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StateItem:
    """One action of a state part."""

    action_id: str
    revision: int
    owner: Owner
    definition: Definition | None
    execution: Execution
    recurring: Mapping[str, Any] | None = None


def read_state_item(raw: Any) -> StateItem:
    """Raises `InvalidDocument` with every fault."""
    if not isinstance(raw, dict):
        raise InvalidDocument([Fault("", f"an action is an object, not {shown(raw)}")])
    values, faults = read_fields(raw, _ITEM)
    definition, more = _stated_definition(raw, values.get("owner"))
    faults += more
    if definition is not None and definition.id != values.get("action_id"):
        faults.append(Fault("definition.id", "disagrees with action_id"))
    if faults:
        raise InvalidDocument(faults)
    return StateItem(definition=definition, **values)


def _stated_definition(
    raw: dict[str, Any], owner: Owner | None
) -> tuple[Definition | None, list[Fault]]:
    """The definition in a state. One of the core's own serves only a core that has forgotten it.

    So what is wrong with such a one is no fault of the state.
    """
    given = raw.get("definition")
    if given is None:
        return None, []
    if owner is Owner.NODE or any(
        isinstance(given, dict) and given.get(name) is not None for name in _MADE
    ):
        found, faults = read_fields(raw, {"definition": Field(_definition)})
        return found.get("definition"), faults
    try:
        return decode_definition(given, owner=Owner.CORE.value), []
    except InvalidDocument:
        return None, []


def shown_from(definition: Definition) -> datetime | None:
    """Up to when its phase is SCHEDULED: of a recurring action for ever, its occurrences run."""
    return _NEVER if definition.schedule is not None else definition.from_date


def definition_text(definition: Definition) -> str:
    """A definition as it is stored and sent."""
    return strict_json.encode_text(encode_definition(definition))
