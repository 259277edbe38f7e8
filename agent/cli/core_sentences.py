"""Why an action is where it is, as the core knows it: in sentences, from what its API reports.

Pure. The node's half is told as on the node (`sentences.explain`); what the core decided, asked for
or cannot know stands here: approvals, withdrawals, refusals, silence, losses, and what holds back
what is due. Whatever an older core does not report is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from agent.cli.sentences import explain
from agent.cli.times import age_s, relative, span

_Events = Sequence[Mapping[str, Any]]

NEEDS_NODE = frozenset({"SCHEDULED", "QUEUED", "PAUSED", "NODE_SILENT"})
"""The phases in which the state of its node says why nothing happens."""
_LOST: Mapping[str, str] = {
    "node_silent": "nothing was heard of its node for so long that nobody counts on it any more",
    "node_decommissioned": "its node was taken out of service",
}
_ASKED: Mapping[str, str] = {
    "cancel": "to cancel it",
    "cancel_local": "to cancel it",
    "approve_local": "to approve it",
    "reject_local": "to reject it",
    "reschedule": "for another time",
}
_ANSWERS = frozenset({"approved", "rejected", "approval_expired"})


def explain_at_core(
    action: Mapping[str, Any],
    events: _Events,
    node: Mapping[str, Any] | None,
    now: datetime,
) -> str:
    """An action as `GET /v1/actions/{id}` has it, what happened to it, and its node if it matters.

    Recurring actions are told by their schedule and their nodes, and are not for here.
    """
    told = [_phase(action, events, node, now), _still_asked(action, now), _edit(action, events)]
    return " ".join(part for part in told if part)


def asked_for_by(events: _Events) -> str | None:
    """Who wanted it, and what a rule made of that."""
    for event in events:
        if event.get("type") == "dispatched":
            rule = f"; rule {event['rule']}: {event.get('result')}" if event.get("rule") else ""
            return f"{event.get('requested_by')}{rule}"
    return None


def _phase(
    action: Mapping[str, Any], events: _Events, node: Mapping[str, Any] | None, now: datetime
) -> str:
    phase, never_left = action["phase"], action["execution_status"] == "NULL"
    if phase == "LOST":
        return _lost(action, now)
    if phase == "NODE_SILENT":
        return _silent(action, node, now)
    if phase == "NOT_STARTED" and never_left and action.get("refused"):
        return f"Its node did not take it: {_faults(action['refused'])}."
    if phase == "PENDING_APPROVAL":
        return _pending(action, events, now)
    if phase in ("REJECTED", "EXPIRED") and never_left:
        return _unapproved(action, now)
    if phase == "CANCELLED":
        return _cancelled(action, events, now, never_left=never_left)
    if phase in ("SCHEDULED", "QUEUED", "PAUSED"):
        return _waiting(action, node, now)
    return _on_its_node(action, now)


def _on_its_node(action: Mapping[str, Any], now: datetime) -> str:
    return explain(action, now).replace("this node", "its node")


def _lost(action: Mapping[str, Any], now: datetime) -> str:
    reason = action.get("lost_reason") or ""
    why = _LOST.get(reason, "its node has forgotten it")
    started = action["execution_status"] == "STARTED"
    known = "It had started, and how it ended" if started else "Whether it ran"
    return f"It was lost {_ago(action.get('lost_at'), now)}: {why}. {known} is not known."


def _silent(action: Mapping[str, Any], node: Mapping[str, Any] | None, now: datetime) -> str:
    seen = (node or {}).get("last_seen_at")
    since = f" for {span(max(0.0, age_s(seen, now)))}" if seen else ""
    if action["execution_status"] == "STARTED":
        then = "It was running then; how it goes is not known before its node is back."
    elif action.get("delivered") is False:
        then = "It has not got there; it goes there as soon as its node is back."
    else:
        then = "Its node has it and starts it by itself; that is told when it is back."
    return f"Nothing has been heard of {action.get('node')}{since}. {then}"


def _pending(action: Mapping[str, Any], events: _Events, now: datetime) -> str:
    asked = _last(events, "approval_requested")
    why = f": {asked['why']}" if asked and asked.get("why") else ""
    ends = (action.get("approval") or {}).get("expires_at")
    until = f", and the question ends {relative(ends, now)}" if ends else ""
    return (
        f"It waits for a person{why}. Nobody has decided{until} "
        f"(corectl approve {action['id']}, or reject)."
    )


def _unapproved(action: Mapping[str, Any], now: datetime) -> str:
    approval = action.get("approval") or {}
    why = f": {approval['reason']}" if approval.get("reason") else ""
    when = _ago(approval.get("at"), now)
    if action["phase"] == "EXPIRED":
        return f"Its approval expired {when}{why}. It never left the core."
    return f"{approval.get('by') or 'Somebody'} rejected it {when}{why}. It never left the core."


def _cancelled(
    action: Mapping[str, Any], events: _Events, now: datetime, *, never_left: bool
) -> str:
    asked = _last(events, "cancel_requested")
    if asked is None or action.get("reason") == "cancelled_on_node":
        return "It was withdrawn." if never_left else _on_its_node(action, now)
    why = f": {asked['why']}" if asked.get("why") else ""
    by = f"{asked.get('requested_by')} withdrew it {_ago(asked.get('at'), now)}{why}."
    if action.get("started_at"):
        return f"{by} It was stopped while it ran."
    return f"{by} It had not started."


def _waiting(action: Mapping[str, Any], node: Mapping[str, Any] | None, now: datetime) -> str:
    name = action.get("node") or "its node"
    due = action.get("from_date")
    late_s = age_s(due or action.get("created_at"), now)
    if late_s < 0:
        told = f"It starts {relative(due, now)}"
        on = f"; {name} has not got it yet" if action.get("delivered") is False else f" on {name}"
        return f"{told}{on}."
    if action.get("attempt"):
        told = f"Its attempt {action['attempt']} is over, and it is to be tried again on {name}"
    else:
        told = f"It has been due for {span(late_s)}"
        if action.get("delivered") is False:
            return f"{told}; {name} has not got it yet{_seen(node, now)}."
        told += f" and waits for its turn on {name}"
    held = _held_back(action, node or {})
    return f"{told}, {held}." if held else f"{told}."


def _seen(node: Mapping[str, Any] | None, now: datetime) -> str:
    if not node:
        return ""
    seen = node.get("last_seen_at")
    return f" (last heard of {relative(seen, now)})" if seen else " (never heard of)"


def _held_back(action: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    """What the node, as it was reported last, does not let it start for."""
    told = []
    for freeze in node.get("freezes") or []:
        if freeze.get("state") == "frozen" and freeze.get("kind") in (None, action["kind"]):
            what = f" for {freeze['kind']}" if freeze.get("kind") else ""
            told.append(f"frozen{what} by {freeze.get('by')}: {freeze.get('reason')}")
    pause = node.get("pause") or {}
    if pause.get("paused"):
        told.append(f"paused: {pause.get('pause_reason') or 'no reason given'}")
    known = {freeze.get("id") for freeze in node.get("freezes") or []}
    told += [
        f"braked for {brake['kind']}: {brake.get('reason') or 'no reason given'}"
        for brake in node.get("brakes") or []
        if brake.get("freeze") not in known and brake.get("kind") == action["kind"]
    ]
    return f"which is {'; '.join(told)}" if told else ""


def _still_asked(action: Mapping[str, Any], now: datetime) -> str:
    asked = action.get("requested")
    if not asked:
        return ""
    by = asked.get("requested_by") or "Somebody"
    what = _ASKED.get(asked.get("type", ""), f"for {asked.get('type')}")
    return f"{by} asked {what} {_ago(asked.get('at'), now)}; its node has not answered yet."


def _edit(action: Mapping[str, Any], events: _Events) -> str:
    """A change that waits for a person beside the revision that is in force."""
    asked = _last(events, "approval_requested")
    if not asked or not asked.get("is_edit") or action["execution_status"] != "NULL":
        return ""
    named = asked.get("approval_id")
    answered = {e.get("approval_id") for e in events if e.get("type") in _ANSWERS}
    if named in answered or action["phase"] in ("CANCELLED", "NOT_STARTED", "LOST"):
        return ""
    return f"A change of it waits for approval (corectl approvals show {named})."


def _ago(instant: str | None, now: datetime) -> str:
    when = relative(instant, now)
    return {"-": "some time ago", "now": "just now"}.get(when, when)


def _last(events: _Events, kind: str) -> Mapping[str, Any] | None:
    return next((event for event in reversed(events) if event.get("type") == kind), None)


def _faults(refused: Mapping[str, Any]) -> str:
    listed = refused.get("faults") or []
    told = [f"{fault.get('path')}: {fault.get('message')}" for fault in listed]
    return "; ".join(told) or "it did not say why"
