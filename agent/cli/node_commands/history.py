"""`agentctl history`: every recorded fact about one action, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from agent.cli import completing
from agent.cli.api_client import segment
from agent.cli.door import Node
from agent.cli.evidence import in_words, telling
from agent.cli.lines import Line, wrapped
from agent.cli.node_commands.command import node_command
from agent.cli.rules import in_words as schedule_in_words
from agent.cli.rules import state_of
from agent.cli.tables import text, width_of_output
from agent.cli.times import clock_time, duration, span

_CHANGE_WIDTH = len("STARTED → WONT_FINISH")
_INDENT = len("2026-01-15T12:00:00.000Z") + 2 + 11 + 2 + _CHANGE_WIDTH + 2


@click.command("history")
@click.argument("action_id", metavar="ID", shell_complete=completing.action_ids)
@node_command
def command(node: Node, action_id: str) -> None:
    """Show what happened to one action, or recurring action, when and why, oldest first."""
    told = node.read(
        lambda api: api.get(f"/v1/actions/{segment(action_id)}/history"),
        lambda state: state.history(action_id),
    )
    if node.as_json:
        node.print_json(told)
        return
    node.tell_if_down()
    width = width_of_output()
    for line in narrative(told["events"]):
        for part in [Line(line)] if width is None else wrapped(Line(line), width, _INDENT):
            click.echo(part.text)


def narrative(events: list[Mapping[str, Any]]) -> Iterator[str]:
    """When, how long after the fact before, from what to what, why."""
    before = None
    for event in events:
        passed = duration(before, event["at"])
        later = "" if passed is None else f"+{span(max(0.0, passed))}"
        before = event["at"]
        yield _one_line(f"{clock_time(event['at'])}  {later:<11}  {describe(event)}")


def describe(event: Mapping[str, Any]) -> str:
    """One event in words; of an unknown type, its name and what it says."""
    if isinstance(event.get("recurring"), Mapping):
        return _rule_told(event)
    match event["type"]:
        case "transition":
            change = f"{event['from']} → {event['to']}"
            return f"{change:<{_CHANGE_WIDTH}}  {event['reason']}{_evidence(event)}"
        case "local_definition":
            return _told("accepted", _origin(event["definition"]))
        case "definition_applied":
            told = f"revision {event['revision']} of the core"
            return _told(f"definition {event['verdict']}", told)
        case "definition_refused":
            faults = "; ".join(f"{f['path']}: {f['message']}" for f in event["faults"])
            return _told("definition refused", faults)
        case "cancel_requested" | "stop_requested":
            return _told("cancel asked", str(event.get("reason") or event.get("by") or ""))
    frame = {"type", "seq", "mark", "at", "id", "action_id"}
    return _told(event["type"], in_words({k: v for k, v in event.items() if k not in frame}))


def _rule_told(event: Mapping[str, Any]) -> str:
    """What became of a recurring action: each of its events says how it stands since then."""
    rule, definition = event["recurring"], event["definition"]
    state = state_of({"state": "?", **rule})
    told = [f"revision {definition.get('revision')}", schedule_in_words(definition.get("schedule"))]
    if rule.get("next_at"):
        told.append(f"next {clock_time(rule['next_at'])}")
    return _told(state, ", ".join(told))


def _origin(definition: Mapping[str, Any]) -> str:
    if definition.get("retry_of"):
        return f"as a retry of {definition['retry_of']}"
    if definition.get("recurring_id"):
        return f"as an occurrence of {definition['recurring_id']}"
    return f"from {definition.get('requester') or 'this node'}"


def _told(what: str, more: str) -> str:
    return f"{what:<{_CHANGE_WIDTH}}  {more}"


def _evidence(event: Mapping[str, Any]) -> str:
    """What the reason rests on, in brackets."""
    evidence = telling(event.get("evidence"), event["reason"])
    if event.get("due_at"):
        evidence["due_at"] = event["due_at"]
    execution = event.get("execution") or {}
    evidence["missed"] = execution.get("missed")
    parts = [f"attempt {event['attempt']}"] if event["to"] == "STARTED" else []
    parts += [in_words(evidence), execution.get("verdict") or ""]
    told = ", ".join(part for part in parts if part)
    return f"  ({told})" if told else ""


def _one_line(value: str) -> str:
    return text(value).replace("\n", " ")
