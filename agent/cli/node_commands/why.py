"""`agentctl why`: what happened to an action, or why it has not run, with the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from agent.cli import completing
from agent.cli.api_client import segment
from agent.cli.door import Node
from agent.cli.evidence import in_words, telling
from agent.cli.node_commands.command import node_command
from agent.cli.tables import sentence, table, width_of_output
from agent.cli.times import clock_time

COLUMNS = ("WHEN", "DECISION", "REASON", "EVIDENCE")
FLOW = frozenset({"DECISION", "EVIDENCE"})


@click.command("why")
@click.argument("action_id", metavar="ID", shell_complete=completing.action_ids)
@node_command
def command(node: Node, action_id: str) -> None:
    """Say why an action is where it is: ran, waits, failed, or never started."""
    now = node.now()
    told = node.read(
        lambda api: api.get(f"/v1/actions/{segment(action_id)}/why"),
        lambda state: state.why(action_id, now),
    )
    if node.as_json:
        node.print_json(told)
        return
    node.tell_if_down()
    click.echo("\n".join(describe(told, width_of_output())))


def describe(told: Mapping[str, Any], width: int | None = None) -> Iterator[str]:
    """The sentence, then what it rests on."""
    yield f"{told['id']}  {told['phase']}"
    yield from sentence(told["answer"], width, first="  ", rest="  ")
    rows = [
        [clock_time(one["at"]), one["what"], one["reason"] or "", _evidence(one)]
        for one in told["decisions"]
    ]
    if rows:
        yield ""
        yield table(COLUMNS, rows, width, flow=FLOW)


def _evidence(decision: Mapping[str, Any]) -> str:
    told = telling(decision["evidence"], decision["reason"])
    if told.get("id") and str(told["id"]) in decision["what"]:
        told = {key: value for key, value in told.items() if key not in {"id", "nominal_at"}}
    return in_words(told)
