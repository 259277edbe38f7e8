"""What an event says, in one line for people. Pure; a type of a newer core is shown as it came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.wire import strict_json

Event = Mapping[str, Any]

_FRAME = frozenset(
    {"id", "node", "seq", "type", "action_id", "at", "stored_at", "by", "execution", "definition"}
)
_VALUE_CHARS_MAX = 120


def sentence_of(event: Event) -> str:
    """The whole line: when, where, what."""
    where = event.get("node") or "core"
    return f"{event.get('stored_at')}  {where}  {told(event)}"


def told(event: Event) -> str:
    """What happened to what, without when and where."""
    action = event.get("action_id")
    return f"{action}: {happened(event)}" if action else happened(event)


def happened(event: Event) -> str:
    """What happened, for whom knows to what."""
    template = _TOLD.get(str(event.get("type")))
    if template:
        return template(event)
    return " ".join(filter(None, (str(event.get("type")).replace("_", " "), _rest(event))))


def _transition(event: Event) -> str:
    execution = event.get("execution") or {}
    said = f"{event.get('from')} → {event.get('to')}"
    reason = event.get("reason")
    if reason:
        said += f" ({reason})"
    if execution.get("exit_code"):
        said += f", exit code {execution['exit_code']}"
    if (event.get("attempt") or 0) > 1:
        said += f", attempt {event['attempt']}"
    return said


def _local_definition(event: Event) -> str:
    definition = event.get("definition") or {}
    kind = definition.get("kind", "?")
    if isinstance(event.get("recurring"), dict):
        return f"the recurring {kind} is {event['recurring'].get('state', '?')} on its node"
    whose = definition.get("recurring_id")
    return f"{kind}, an occurrence of {whose}" if whose else f"{kind}, made on the node"


def _applied(event: Event) -> str:
    return f"the node has revision {event.get('revision')} ({event.get('verdict')})"


def _refused(event: Event) -> str:
    faults = event.get("faults") or []
    why = "; ".join(
        f"{fault.get('path')}: {fault.get('message')}"
        for fault in faults
        if isinstance(fault, dict)
    )
    return f"the node refused revision {event.get('revision')}: {why}"


def _gap(event: Event) -> str:
    return f"events {event.get('first')} to {event.get('last')} are lost ({event.get('reason')})"


def _dispatched(event: Event) -> str:
    said = f"{event.get('kind')} was dispatched by {event.get('requested_by')}"
    if event.get("rule"):
        said += f" (rule {event['rule']}: {event.get('result')})"
    return said + (", and waits for approval" if event.get("approval") == "pending" else "")


def _suppressed(event: Event) -> str:
    said = f"{event.get('kind')} of {event.get('requested_by')} was not stored"
    return f"{said}, by the rule {event.get('rule')}{_because(event, 'reason')}"


def _cancel(event: Event) -> str:
    return f"{event.get('requested_by')} withdraws it{_because(event)}"


def _rescheduled(event: Event) -> str:
    waits = ", if that is approved" if event.get("waits") else ""
    return (
        f"{event.get('requested_by')} moves it to {event.get('from_date')}{waits}{_because(event)}"
    )


def _asked(event: Event) -> str:
    what = "the change" if event.get("is_edit") else "it"
    until = f"; ends at {event['expires_at']}" if event.get("expires_at") else ""
    return f"{what} waits for approval{_because(event)}{until}"


def _decided(word: str) -> Callable[[Event], str]:
    def said(event: Event) -> str:
        what = "the change" if event.get("is_edit") else "it"
        return f"{event.get('decided_by')} {word} {what}{_because(event)}"

    return said


def _expired(event: Event) -> str:
    what = "the change" if event.get("is_edit") else "it"
    return f"the question about {what} is over{_because(event)}"


def _labels(event: Event) -> str:
    changed = event.get("changed") or {}
    said = ", ".join(f"{k}={v}" if v is not None else f"{k}-" for k, v in changed.items())
    return f"labels changed: {said}" if isinstance(changed, dict) else f"labels {_rest(event)}"


def _frozen(event: Event) -> str:
    what = f" for {event['kind']}" if event.get("kind") else ""
    until = f", until {event['until']}" if event.get("until") else ""
    return (
        f"{event.get('requested_by')} freezes {event.get('selector')}{what}{until}"
        f"{_because(event, 'reason')}"
    )


def _thawed(event: Event) -> str:
    return f"{event.get('requested_by')} thaws {event.get('selector')}"


def _decommissioned(event: Event) -> str:
    return f"{event.get('requested_by')} takes it out of service{_because(event, 'reason')}"


def _because(event: Event, member: str = "why") -> str:
    return f": {event[member]}" if event.get(member) else ""


def _webhook_gap(event: Event) -> str:
    return (
        f"webhook {event.get('webhook_id')} never got events {event.get('first')} to "
        f"{event.get('last')}: they were pruned before"
    )


_TOLD: Mapping[str, Callable[[Event], str]] = {
    "transition": _transition,
    "local_definition": _local_definition,
    "definition_applied": _applied,
    "definition_refused": _refused,
    "gap": _gap,
    "dispatched": _dispatched,
    "suppressed": _suppressed,
    "cancel_requested": _cancel,
    "rescheduled": _rescheduled,
    "approval_requested": _asked,
    "approved": _decided("approved"),
    "rejected": _decided("rejected"),
    "approval_expired": _expired,
    "labels_changed": _labels,
    "frozen": _frozen,
    "thawed": _thawed,
    "decommissioned": _decommissioned,
    "webhook_gap": _webhook_gap,
}


def _rest(event: Event) -> str:
    """What else it carries, as `key=value`."""
    found = {key: value for key, value in event.items() if key not in _FRAME and value is not None}
    return " ".join(f"{key}={_value(value)}" for key, value in found.items())


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else strict_json.encode_text(value)
    return text if len(text) <= _VALUE_CHARS_MAX else f"{text[:_VALUE_CHARS_MAX]}…"
