"""`agentctl history`: every recorded fact about one action, a line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from agent.cli.api_client import segment
from agent.cli.door import Node
from agent.cli.node_commands.command import node_command
from agent.cli.tables import text
from agent.cli.times import clock_time, span

_CHANGE_WIDTH = len("STARTED → WONT_FINISH")


@click.command("history")
@click.argument("action_id", metavar="ID")
@node_command
def command(node: Node, action_id: str) -> None:
    """Show what happened to one action, when and why, oldest first."""
    told = node.read(
        lambda api: api.get(f"/v1/actions/{segment(action_id)}/history"),
        lambda state: state.history(action_id),
    )
    if node.as_json:
        node.print_json(told)
        return
    node.tell_if_down()
    for event in told["events"]:
        click.echo(_one_line(f"{clock_time(event['at'])}  {describe(event)}"))


def describe(event: Mapping[str, Any]) -> str:
    """One event in words; of an unknown type, its name."""
    match event["type"]:
        case "transition":
            change = f"{event['from']} → {event['to']}"
            return f"{change:<{_CHANGE_WIDTH}}  {event['reason']}{_evidence(event)}"
        case "local_definition":
            by = event["definition"].get("requester") or "this node"
            return f"{'accepted':<{_CHANGE_WIDTH}}  from {by}"
        case "definition_applied":
            verdict = f"definition {event['verdict']}"
            return f"{verdict:<{_CHANGE_WIDTH}}  revision {event['revision']} of the core"
        case "definition_refused":
            faults = "; ".join(f"{f['path']}: {f['message']}" for f in event["faults"])
            return f"{'definition refused':<{_CHANGE_WIDTH}}  {faults}"
    return str(event["type"])


def _evidence(event: Mapping[str, Any]) -> str:
    """What the reason rests on, in brackets."""
    evidence = dict(event.get("evidence") or {})
    parts = [f"attempt {event['attempt']}"] if event["to"] == "STARTED" else []
    late_s = evidence.pop("late_s", None)
    if late_s is not None:
        parts.append(f"{span(late_s)} late" if late_s >= 0.001 else "on time")
    evidence.pop("revision", None)
    duration_s = evidence.pop("duration_s", None)
    if evidence.get("failure") == event["reason"]:
        evidence.pop("failure")
    if evidence.get("failures") == 1:
        evidence.pop("failures")  # only a second one says anything
    parts += [f"{key} {value}" for key, value in evidence.items()]
    if duration_s is not None:
        parts.append(f"ran {span(duration_s)}")
    if event.get("due_at"):
        parts.append(f"again at {clock_time(event['due_at'])}")
    verdict = (event.get("execution") or {}).get("verdict")
    if verdict:
        parts.append(verdict)
    return f"  ({', '.join(parts)})" if parts else ""


def _one_line(value: str) -> str:
    return text(value).replace("\n", " ")
