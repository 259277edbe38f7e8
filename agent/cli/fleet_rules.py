"""Recurring actions of a fleet as people read them: documents of the core in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from agent.cli.rules import in_words, in_zone, terms
from agent.cli.tables import pairs, table, width_of_output
from agent.cli.times import relative
from agent.wire import strict_json

_RULES = ("ID", "KIND", "TARGET", "STATE", "SCHEDULE", "NODES", "NEXT")
_ON = ("NODE", "STATE", "NEXT", "RUNS", "LAST", "PHASE", "NOTE")
_FIRES = ("STARTS", "", "ID", "NODE", "NOTES")
_OCCURRENCES = ("OCCURRENCE", "NODE", "PHASE", "REASON", "CODE", "WHEN")


def rules_table(rules: Sequence[Mapping[str, Any]], moment: datetime) -> str:
    """One line each."""
    if not rules:
        return "no recurring actions"
    rows = [
        [
            one["id"], one["kind"], one["node"] or one["selector"], _state(one),
            in_words(one["schedule"]), _count(one["nodes"]), _next(one, moment),
        ]
        for one in rules
    ]  # fmt: skip
    return table(_RULES, rows, width_of_output(), flow={"STATE", "SCHEDULE", "TARGET"})


def _state(rule: Mapping[str, Any]) -> str:
    """`active`, `paused (reason)`, `pending_approval` …"""
    return f"paused ({rule['paused']})" if rule["state"] == "paused" else str(rule["state"])


def _count(nodes: Mapping[str, Any]) -> str:
    return f"{nodes['count']}{'' if nodes['counted_all'] else '+'}"


def _next(rule: Mapping[str, Any], moment: datetime) -> str:
    if rule["state"] == "paused":
        return "after resume"
    return relative(rule["next_at"], moment) if rule["next_at"] else "-"


def rule_told(rule: Mapping[str, Any], moment: datetime) -> str:
    """The whole of one: its definition, then its nodes."""
    question = rule["question"] or {}
    shown = pairs(
        [
            ("id", rule["id"]),
            ("kind", rule["kind"]),
            ("on", rule["node"] or f"every node that matches {rule['selector']}"),
            ("state", _state(rule)),
            ("question", _asked(question)),
            ("schedule", in_words(rule["schedule"])),
            *terms(rule["schedule"]),
            ("revision", rule["revision"]),
            ("payload", _compact(rule.get("payload"))),
            ("metadata", _compact(rule.get("metadata"))),
            ("service", rule.get("service")),
            ("created", f"{rule['created_at']} by {rule['created_by']}"),
            ("deleted", rule["deleted_at"]),
            ("nodes", _count(rule["nodes"])),
        ]
    )
    if not rule["on"]:
        return shown
    rows = [_on_row(one, moment) for one in rule["on"]]
    more = "\n(more of them with --limit)" if rule["next"] else ""
    return f"{shown}\n{table(_ON, rows, width_of_output(), flow={'STATE', 'NOTE'})}{more}"


def _asked(question: Mapping[str, Any]) -> str | None:
    if not question:
        return None
    what = "a change of it waits" if question["is_edit"] else "it waits"
    return f"{what} for a person: {question['why']} (corectl approve {question['approval_id']})"


def _on_row(one: Mapping[str, Any], moment: datetime) -> list[Any]:
    last = one["last"] or {}
    return [
        one["node"],
        _stands(one),
        in_zone(one["next_at"], one["zone"]) if one["next_at"] and one["wanted"] else "-",
        one["run_count"] if one["run_count"] is not None else "-",
        relative(one["last_nominal_at"], moment) if one["last_nominal_at"] else "-",
        last.get("phase") or "-",
        "; ".join(_notes(one)) or "-",
    ]


def _stands(one: Mapping[str, Any]) -> str:
    if not one["wanted"]:
        return "withdrawn"
    if one["state"] is None:
        return "not reported yet"
    why = one["paused"] if one["state"] == "paused" else one["ended_reason"]
    return f"{one['state']} ({why})" if why else str(one["state"])


def _notes(one: Mapping[str, Any]) -> Iterator[str]:
    if one["wanted"] and not one["delivered"]:
        yield "the newest definition is not there yet"
    if one["refused"]:
        faults = one["refused"].get("faults") or [{}]
        yield f"refused: {faults[0].get('message', '?')}"
    if one["parked"]:
        yield f"put aside: {one['parked']}"
    if one["lost_at"]:
        yield "the node does not know it"
    if one["silent"]:
        yield "nothing is heard of the node"


def made_told(told: Mapping[str, Any]) -> str:
    """What creating or changing one came to."""
    name = told.get("id") or told.get("action_id")
    word = told.get("would_be") or told["outcome"]
    note = " (only checked: nothing was changed)" if "would_be" in told else ""
    parts = told.get("actions") or []
    placed = [one for one in parts if one["outcome"] == "scheduled"]
    if word == "pending_approval":
        head = f"{name} waits for approval: {told['why']} (corectl approve {name})"
    elif "state" in told and parts:
        nodes = "1 node" if len(placed) == 1 else f"{len(placed)} nodes"
        head = f"{name} {told['state']} on {nodes}, revision {told['revision']}"
    elif "state" in told:
        where = f"no node matches {told['selector']} yet" if told.get("selector") else "no node"
        head = f"{name} {told['state']}, revision {told['revision']}; {where}"
    else:
        head = f"{name} {word}"
    lines = [head + note]
    for one in parts:
        faults = "; ".join(f"{x['path']}: {x['message']}" for x in one.get("faults", ()))
        rule = f"by the rule {one['rule']}" if one.get("rule") else None
        why = [part for part in (faults, rule, one.get("note")) if part]
        if why:
            lines.append(f"  {one['node']}: {one['outcome']}: {'; '.join(why)}")
    return "\n".join(lines)


def placed_told(told: Mapping[str, Any]) -> str:
    """The occurrences that were asked for."""
    if not told["actions"]:
        return "no instant of its schedule lies in there, on any node that has it"
    return "\n".join(f"{one['action_id']} on {one['node']}" for one in told["actions"])


def occurrences_table(actions: Sequence[Mapping[str, Any]], moment: datetime) -> str:
    """Newest first."""
    if not actions:
        return "no occurrences"
    rows = [
        [
            one["id"], one["node"], one["phase"], one["reason"] or "-",
            "-" if one["exit_code"] is None else one["exit_code"],
            relative(one["ended_at"] or one["started_at"] or one["created_at"], moment),
        ]
        for one in actions
    ]  # fmt: skip
    return table(_OCCURRENCES, rows, width_of_output())


def forecast_told(told: Mapping[str, Any], moment: datetime) -> str:
    """What starts, then the peaks."""
    if not told["fires"]:
        later = told["next_at"]
        then = f"; next at {later} ({relative(later, moment)})" if later else ""
        return f"nothing until {told['until']}{then}"
    rows = [
        [
            in_zone(one["starts_at"], one["zone"]), relative(one["starts_at"], moment), one["id"],
            one["node"], "; ".join(one["notes"]) or "-",
        ]
        for one in told["fires"]
    ]  # fmt: skip
    lines = [table(_FIRES, rows, width_of_output(), flow={"NOTES"})]
    if told["truncated"]:
        lines.append("(there are more: --limit N, or a nearer --until)")
    lines += [f"{one['starts']} starts in the minute of {one['at']}" for one in told["peaks"]]
    if not told["counted_all"]:
        lines.append("(not everything was counted: ask for a shorter time, or for fewer nodes)")
    return "\n".join(lines)


def _compact(value: Any) -> str | None:
    return strict_json.encode_text(value) if value else None
