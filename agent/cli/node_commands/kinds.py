"""`agentctl kinds`: what this node can be asked to do, and what is wrong in its catalogue."""

from __future__ import annotations

from typing import Any

import click

from agent.cli.door import Node
from agent.cli.node_commands.command import node_command
from agent.cli.tables import table, width_of_output
from agent.cli.times import span

COLUMNS = ("KIND", "RISK", "RUNS", "TIMEOUT", "DRY RUN", "DESCRIPTION")


@click.command("kinds")
@node_command
def command(node: Node) -> None:
    """List the kinds that are installed on this node."""
    told = node.ask(lambda api: api.get("/v1/kinds"))
    if node.as_json:
        node.print_json(told)
        return
    rows = [
        [
            kind["kind"],
            kind["risk_level"] or "-",
            _runs(kind),
            span(kind["timeout_s"]) if kind["timeout_s"] else "none",
            "yes" if kind["dry_run"] else "no",
            kind["description"],
        ]
        for kind in told["kinds"]
    ]
    click.echo(table(COLUMNS, rows, width_of_output(), flow={"DESCRIPTION"}))
    faults = [(kind["kind"], fault) for kind in told["kinds"] for fault in kind["faults"]]
    for name, fault in faults:
        click.echo(f"{name} cannot be used: {fault}", err=True)
    for fault in told["faults"]:
        click.echo(f"not a usable kind: {fault}", err=True)


def _runs(kind: dict[str, Any]) -> str:
    """Beside what it runs, and how long; or that it does not: the faults stand below."""
    if kind["faults"]:
        return "NOT: faulty"
    if kind["mode"] == "hold":
        return "all its window"
    return "beside others" if kind["parallel"] else "alone"
