"""`agentctl forecast`: what is going to start, and when, in the zone of whoever planned it."""

from __future__ import annotations

from typing import Any

import click

from agent.cli import completing
from agent.cli.door import Node
from agent.cli.node_commands.command import node_command
from agent.cli.rules import in_zone
from agent.cli.tables import table, width_of_output
from agent.cli.times import relative
from agent.cli.values import instant

LIMIT_DEFAULT = 50
LIMIT_MAX = 1_000
COLUMNS = ("STARTS", "", "ID", "KIND", "NOTES")


@click.command("forecast")
@click.option("--until", metavar="WHEN", help="So far; default: a day. +7d counts from now.")
@click.option("--id", "action_id", shell_complete=completing.rule_ids, help="Only this one.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=LIMIT_DEFAULT,
              show_default=True, help="At most so many.")  # fmt: skip
@node_command
def command(node: Node, until: str | None, action_id: str | None, limit: int) -> None:
    """Show what starts when: planned actions and every occurrence of recurring ones."""
    now = node.now()
    told = node.ask(
        lambda api: api.get(
            "/v1/forecast", until=instant(until, "--until", now), id=action_id, limit=limit
        )
    )
    if node.as_json:
        node.print_json(told)
        return
    rows: list[list[Any]] = [
        [in_zone(fire["starts_at"], fire.get("zone") or told.get("zone")),
         relative(fire["starts_at"], now), fire["id"], fire["kind"],
         "; ".join(fire.get("notes") or [])]
        for fire in told["fires"]
    ]  # fmt: skip
    click.echo(table(COLUMNS, rows, width_of_output()))
    if told.get("paused"):
        click.echo("this node is paused: nothing of it starts until `agentctl resume`", err=True)
    if told.get("truncated"):
        click.echo("There are more: --limit N, or a nearer --until", err=True)
