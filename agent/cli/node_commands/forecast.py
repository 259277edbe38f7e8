"""`agentctl forecast`: what is going to start, and when, in the zone of whoever planned it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from agent.cli import completing
from agent.cli.door import Node
from agent.cli.node_commands.command import node_command
from agent.cli.rules import in_zone
from agent.cli.tables import table, width_of_output
from agent.cli.times import relative
from agent.cli.values import instant
from agent.domain.instants import parse_instant

LIMIT_DEFAULT = 50
LIMIT_MAX = 1_000
COLUMNS = ("STARTS", "", "ID", "KIND", "NOTES")


@click.command("forecast")
@click.option("--until", metavar="WHEN", help="So far; default: a day, of one ID at least "
              "its next. +7d counts from now.")  # fmt: skip
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
    if told["fires"] or told.get("gaps"):
        click.echo(table(COLUMNS, _rows(told, now), width_of_output(), flow={"NOTES"}))
    else:
        click.echo(_nothing(told, now))
    if told.get("paused"):
        click.echo("this node is paused: nothing of it starts until `agentctl resume`", err=True)
    if told.get("truncated"):
        click.echo("There are more: --limit N, or a nearer --until", err=True)


def _rows(told: dict[str, Any], now: datetime) -> list[list[Any]]:
    """What starts, and the instants that a clock change leaves out, by time."""
    zone = told.get("zone")
    fires = [
        (fire["starts_at"], relative(fire["starts_at"], now), fire,
         "; ".join(fire.get("notes") or []))
        for fire in told["fires"]
    ]  # fmt: skip
    gaps = [(gap["at"], "-", gap, gap["note"]) for gap in told.get("gaps") or []]
    return [
        [in_zone(at, one.get("zone") or zone), when, one["id"], one["kind"], notes]
        for at, when, one, notes in sorted(fires + gaps, key=lambda row: parse_instant(row[0]))
    ]


def _nothing(told: dict[str, Any], now: datetime) -> str:
    """So far; and of one id, when then."""
    said = f"nothing until {in_zone(told['until'], told.get('zone'))}"
    next_at = told.get("next_at")
    if not next_at or parse_instant(next_at) <= now:
        return said
    return f"{said}; next at {in_zone(next_at, told.get('zone'))} ({relative(next_at, now)})"
