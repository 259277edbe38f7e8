"""What a dispatch was answered, in words: one line for one action, a table for several."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agent.cli.tables import table, width_of_output
from agent.cli.times import relative
from agent.domain.phase import ENDED

_DRY = "dry_run"
_WOULD: Mapping[str, str] = {
    "queued": "would be queued",
    "scheduled": "would be scheduled",
    "pending_approval": "would wait for approval",
    "suppressed": "would be suppressed",
    "deduplicated": "would be taken for a repeat",
}


def outcome_told(outcome: Mapping[str, Any], node: str | None, moment: datetime) -> str:
    """The whole answer. `node` is where it was sent to, if the answer does not say."""
    if "actions" in outcome:
        return several_told(outcome, moment)
    where = outcome.get("node") or node
    place = f" on {where}" if where else ""
    if outcome["outcome"] == _DRY:
        word, why = _WOULD.get(outcome["would_be"], outcome["would_be"]), _detail(outcome, moment)
        note = f": {why}" if why else ""
        return f"{word}{place}{note} (dry run: nothing was changed)"
    return _line(outcome, place, moment)


def _line(one: Mapping[str, Any], place: str, moment: datetime) -> str:
    name, word = one.get("action_id"), one["outcome"]
    if word == "scheduled":
        at = one.get("scheduled_for")
        when = f" for {at} ({relative(at, moment)})" if at else " by its schedule"
        return f"{name} scheduled{place}{when}{_by_rule(one)}"
    if word == "pending_approval":
        return f"{name} waits for approval{place}: {one.get('why')} (corectl approve {name})"
    if word == "suppressed":
        return f"suppressed{place}{_by_rule(one)}; nothing was stored"
    if word == "deduplicated":
        return f"{name} deduplicated{place}: this is the first one{_by_rule(one)}"
    approved = f", approved by {one['approved_by']}" if one.get("approved_by") else ""
    return f"{name} {word}{place}{approved}"


def _by_rule(one: Mapping[str, Any]) -> str:
    if not one.get("rule"):
        return ""
    reason = f": {one['reason']}" if one.get("reason") else ""
    return f" by the rule {one['rule']}{reason}"


def several_told(outcome: Mapping[str, Any], moment: datetime) -> str:
    """A line on all of them, then each."""
    actions = outcome["actions"]
    is_dry = outcome["outcome"] == _DRY
    word = outcome["outcome"]
    if is_dry:
        word = _WOULD.get(outcome["would_be"], outcome["would_be"])
    nodes = "1 node" if len(actions) == 1 else f"{len(actions)} nodes"
    note = " (dry run: nothing was changed)" if is_dry else ""
    correlation = None if is_dry else outcome.get("correlation_id")  # there is nothing to find
    head = f"{word} on {nodes}{note}" + (f", correlation id {correlation}" if correlation else "")
    rows = [
        [
            one["node"],
            one["would_be"] if is_dry else one["outcome"],
            "-" if is_dry else one.get("action_id") or "-",
            _detail(one, moment),
        ]
        for one in actions
    ]
    columns = ["NODE", "OUTCOME", "ACTION", "WHAT"]
    return f"{head}\n{table(columns, rows, width_of_output(), flow={'WHAT'})}"


def _detail(one: Mapping[str, Any], moment: datetime) -> str:
    """What is to be known of it besides its outcome."""
    parts = []
    if one.get("scheduled_for"):
        parts.append(relative(one["scheduled_for"], moment))
    if one.get("rule") and one["rule"] not in (one.get("why") or ""):
        parts.append(f"rule {one['rule']}" + (f": {one['reason']}" if one.get("reason") else ""))
    if one.get("why"):
        parts.append(one["why"])
    if one.get("approved_by"):
        parts.append(f"approved by {one['approved_by']}")
    parts += [f"{fault['path']}: {fault['message']}" for fault in one.get("faults", ())]
    return "; ".join(parts)


def action_ids(outcome: Mapping[str, Any]) -> list[str]:
    """The actions that an answer names, each once."""
    named = outcome.get("actions", [outcome])
    return list(dict.fromkeys(one["action_id"] for one in named if one.get("action_id")))


def ended_line(document: Mapping[str, Any]) -> str:
    """One line on how it ended, or that it has not."""
    line = f"{document['id']} {document['phase']}"
    if document["phase"] == "PENDING_APPROVAL":
        return f"{line}: nobody has decided yet (corectl approve {document['id']})"
    if document["phase"] not in ENDED:
        return f"{line}: it has not ended yet (corectl show {document['id']} says why)"
    details = [
        f"exit code {document['exit_code']}" if document["exit_code"] is not None else None,
        document["reason"],
        document["error"],
    ]
    told = ", ".join(dict.fromkeys(detail for detail in details if detail))
    return f"{line} ({told})" if told else line
