"""Definitions as JSON (DESIGN §4): one table of fields, strict in, complete out.

`decode_definition` reports all faults at once and refuses what it cannot keep; fields that this
version does not know are kept in `extra` and ignored, except when `requires` names them. A newer
core may send such; from somebody's own hand (`decode_submitted`) one that is almost ours is a slip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from datetime import datetime
from itertools import islice
from typing import Any

from agent.domain.definition import (
    Approval,
    ApprovalState,
    Definition,
    OnRestart,
    Owner,
    Requester,
    Retry,
    RiskLevel,
)
from agent.domain.errors import FAULTS_SHOWN_MAX, Fault, InvalidDocument, shown
from agent.domain.ids import RECURRING_ID_CHARS_MAX
from agent.domain.instants import SPAN_S_MAX, format_instant
from agent.domain.schedule.spec import Schedule
from agent.wire import fields as f
from agent.wire import strict_json
from agent.wire.fields import Field, read_closed, read_fields

PAYLOAD_BYTES_MAX = 64 * 1024
METADATA_BYTES_MAX = 16 * 1024
EXTRA_BYTES_MAX = 16 * 1024
REVISION_MAX = 2**53
TIMEOUT_S_MAX = 10 * 366 * 86_400.0  # the runner's own bound
PAUSED_SCHEDULE = "paused_schedule"
BACKFILL = "backfill"
FEATURES: frozenset[str] = frozenset(
    {"windows", "retry", "dry_run", "start_deadline", "schedule", "hold", "brake", "freeze"}
    | {PAUSED_SCHEDULE, BACKFILL}
)
"""What `requires` may name on this version; later versions add words, never take one away."""

_REPORTED = frozenset(
    {"execution_status", "reason", "attempt", "started_at", "ended_at", "exit_code", "signal"}
    | {"progress", "error", "output", "verdict", "phase"}
)
_SAME_AS = {"action_id": "id", "action_type": "kind"}
_OTHER_WORDS = {"end_date": "to_date", "start_date": "from_date", "type": "kind"}
_STATUS_WORDS = frozenset({"pending", "queued", "scheduled", "NEW", "NULL"})
SLIP_CUTOFF = 0.82  # `timout_s`, `form_date`, `lables` are slips; not `note`, nor what a view adds
_NOT_WRITTEN = frozenset({"requester", "recurring_id", "nominal_at", "retry_of"})
"""What the door or the node sets: nobody means these by a slip."""
OWN_PREFIX = "x_"
"""Members that begin so are somebody's own, however they go on."""


def _retry(value: Any) -> Retry:
    return Retry(
        **read_closed(
            value,
            {
                "max_attempts": Field(f.integer(1, 1000)),
                "delay_s": Field(f.number(0, SPAN_S_MAX)),
                "backoff": Field(f.number(1, 100)),
                "max_delay_s": Field(f.number(0, SPAN_S_MAX)),
            },
        )
    )


def _approval(value: Any) -> Approval:
    return Approval(
        **read_closed(
            value,
            {
                "state": Field(f.choice(ApprovalState), required=True),
                "by": Field(f.text(256)),
                "at": Field(f.instant),
                "reason": Field(f.text(1024)),
                "expires_at": Field(f.instant),
                "digest": Field(f.text(128)),
            },
        )
    )


def _schedule(value: Any) -> Schedule:
    from agent.wire.schedule import decode_schedule  # noqa: PLC0415 — most actions have none

    return decode_schedule(value)


def _rollback(value: Any) -> Any:
    if isinstance(value, str):
        return f.text(512)(value)
    return f.json_object(PAYLOAD_BYTES_MAX)(value)


FIELDS: Mapping[str, Field] = {
    "id": Field(f.action_id, required=True),
    "kind": Field(f.kind, required=True),
    "owner": Field(f.choice(Owner)),
    "revision": Field(f.integer(1, REVISION_MAX)),
    "payload": Field(f.json_object(PAYLOAD_BYTES_MAX)),
    "metadata": Field(f.json_object(METADATA_BYTES_MAX)),
    "labels": Field(f.text_map(64, 256)),
    "from_date": Field(f.instant),
    "to_date": Field(f.instant),
    "should_be_executed": Field(f.boolean),
    "app_names": Field(f.text_list(32, 128)),
    "timeout_s": Field(f.number(0.001, TIMEOUT_S_MAX)),
    "grace_s": Field(f.number(0, 86400)),
    "retry": Field(_retry),
    "on_restart": Field(f.choice(OnRestart)),
    "start_deadline_s": Field(f.number(0.001, SPAN_S_MAX)),
    "dry_run": Field(f.boolean),
    "requester": Field(f.choice(Requester)),
    "approval": Field(_approval),
    "created_at": Field(f.instant_or_unix),
    "proposed_by": Field(f.text(256)),
    "correlation_id": Field(f.text(128)),
    "node": Field(f.text(128)),
    "service": Field(f.text(128)),
    "risk_level": Field(f.choice(RiskLevel)),
    "confidence": Field(f.number(0, 1)),
    "approval_required": Field(f.boolean),
    "autonomous_eligible": Field(f.boolean),
    "rollback_reference": Field(_rollback),
    "retry_of": Field(f.action_id),
    "schedule": Field(_schedule),
    "recurring_id": Field(f.action_id),
    "nominal_at": Field(f.instant),
    "requires": Field(f.text_list(32, 64)),
}


def decode_definition(document: Any, **defaults: Any) -> Definition:
    """JSON object → Definition; `defaults` stand in for fields that are absent (`id`, `owner`).

    Raises `InvalidDocument` with every fault. Reported fields (`execution_status` …) are ignored:
    they belong to the node. Also what was stored is read by this: a definition that was accepted
    once and that this version would refuse is not run as something else.
    """
    if not isinstance(document, dict):
        raise InvalidDocument([Fault("", f"a definition is an object, not {shown(document)}")])
    given, faults = _one_name_each(document)
    for name, value in defaults.items():
        given.setdefault(name, value)
    values, field_faults = read_fields(given, FIELDS)
    faults += field_faults
    extra = {k: v for k, v in given.items() if k not in FIELDS and k not in _REPORTED}
    faults += _extra_faults(extra)
    faults += _joint_faults(values) + _recurring_faults(given, values)
    if faults:
        raise InvalidDocument(faults)
    return Definition(**values, extra=extra)


def decode_submitted(document: Any, **defaults: Any) -> Definition:
    """As `decode_definition`, for what somebody has just written: names almost ours are refused."""
    slips = _slips(document) if isinstance(document, dict) else []
    try:
        definition = decode_definition(document, **defaults)
    except InvalidDocument as error:
        raise InvalidDocument([*error.faults, *slips]) from None
    if slips:
        raise InvalidDocument(slips)
    return definition


def _slips(document: Mapping[str, Any]) -> list[Fault]:
    known = {*FIELDS, *_REPORTED, *_SAME_AS, "status"}
    meant = [name for name in FIELDS if name not in _NOT_WRITTEN] + [*_SAME_AS]
    faults = []
    unknown = (key for key in document if key not in known and not key.startswith(OWN_PREFIX))
    for key in islice(unknown, FAULTS_SHOWN_MAX):
        hint = f.nearest(key[: f.NAME_CHARS_MAX], meant, SLIP_CUTOFF)
        if hint and _ours(key) not in known:  # else told already, by the name it has here
            own = "a member of your own begins with x_, or goes into metadata"
            faults.append(Fault(key[: f.NAME_CHARS_MAX], f"is not known here{hint} ({own})"))
    return faults


def _one_name_each(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Seed 004's second names folded into ours; both given must agree."""
    given = dict(document)
    faults = []
    for alias, name in _SAME_AS.items():
        value = given.pop(alias, None)
        if value is None:
            continue
        if given.get(name) is None:
            given[name] = value
        elif given[name] != value:
            faults.append(
                Fault(alias, f"{shown(value)} disagrees with {name} {shown(given[name])}")
            )
    status = given.pop("status", None)
    if status is not None and not (isinstance(status, str) and status in _STATUS_WORDS):
        faults.append(
            Fault("status", f"{shown(status)} cannot be true of a new definition; write 'pending'")
        )
    return given, faults


def _extra_faults(extra: Mapping[str, Any]) -> list[Fault]:
    faults = []
    for key in extra:
        ours = _ours(key)
        if ours != key and (ours in FIELDS or ours in _REPORTED):
            faults.append(Fault(key, f"is called {ours!r} here"))
    if len(strict_json.encode(extra)) > EXTRA_BYTES_MAX:
        faults.append(Fault("", f"unknown fields take more than {EXTRA_BYTES_MAX} bytes"))
    return faults


def _ours(key: str) -> str:
    """The name here of what others call so."""
    ours = f.snake_case(key)
    return _SAME_AS.get(ours) or _OTHER_WORDS.get(ours) or ours


def _joint_faults(values: Mapping[str, Any]) -> list[Fault]:
    """What no field can say alone."""
    faults = []
    start, end = values.get("from_date"), values.get("to_date")
    if start is not None and end is not None and start >= end:
        faults.append(
            Fault(
                "to_date",
                f"{format_instant(end)} is not after from_date {format_instant(start)}",
            )
        )
    missing = [word for word in values.get("requires", ()) if word not in FEATURES]
    if missing:
        faults.append(
            Fault("requires", f"this agent does not have {', '.join(missing)}; upgrade it")
        )
    return faults


def _recurring_faults(given: Mapping[str, Any], values: Mapping[str, Any]) -> list[Fault]:
    """A rule has a short id, and nothing is a rule and an occurrence of one."""
    if given.get("schedule") is None:
        return []
    faults = []
    name = values.get("id", "")
    if len(name) > RECURRING_ID_CHARS_MAX:
        faults.append(
            Fault(
                "id",
                f"is {len(name)} characters long; with a schedule at most "
                f"{RECURRING_ID_CHARS_MAX}, as its occurrences append their instant",
            )
        )
    if "recurring_id" in values or "nominal_at" in values:
        faults.append(Fault("schedule", "an occurrence of a recurring action has none of its own"))
    return faults


_MEMBERS = tuple(one.name for one in dataclass_fields(Definition) if one.name != "extra")


def encode_definition(definition: Definition) -> dict[str, Any]:
    """The definition as plain JSON values; fields that say nothing are left out."""
    document: dict[str, Any] = dict(definition.extra)
    for name in _MEMBERS:
        value = getattr(definition, name)
        if value is None or value == ():
            continue
        document[name] = _plain(value)
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, Schedule):
        from agent.wire.schedule import encode_schedule  # noqa: PLC0415

        return encode_schedule(value)
    if isinstance(value, Retry | Approval):
        pairs = ((field.name, getattr(value, field.name)) for field in dataclass_fields(value))
        return {name: _plain(entry) for name, entry in pairs if entry is not None}
    if isinstance(value, tuple):
        return list(value)
    return value
