"""`agentctl brake`: hold a kind, or what has a label, on this node, with a reason and an end."""

from __future__ import annotations

from typing import Any

import click

from agent.cli import completing
from agent.cli.defining import Reading
from agent.cli.door import Node
from agent.cli.node_commands.command import node_command
from agent.cli.status_lines import brake_told, held
from agent.cli.tables import table, width_of_output
from agent.cli.times import clock_time, relative

COLUMNS = ("BRAKE", "HOLDS", "ENDS", "", "REASON", "BY")


@click.command("brake")
@click.option("--kind", shell_complete=completing.kinds, help="Hold this kind.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="Hold what has this label.")
@click.option("--for", "for_", metavar="SPAN", help="For so long, as 2h.")
@click.option("--until", metavar="WHEN", help="Until then.")
@click.option("--reason", help="Why; shown here, in `why`, and at the core.")
@click.option("--release", metavar="N", shell_complete=completing.brake_ids, help="End brake N.")
@node_command
def command(node: Node, release: str | None, **given: Any) -> None:
    """List the brakes of this node; with --kind or --label, put one on (both: what fits both)."""
    wanted = any(given.values())
    if release is not None:
        if wanted:
            raise click.UsageError("--release stands alone")
        _release(node, release)
    elif wanted:
        _put_on(node, given)
    else:
        _list(node)


def _list(node: Node) -> None:
    told = node.ask(lambda api: api.get("/v1/brake"))
    if node.as_json:
        node.print_json(told)
        return
    now = node.now()
    rows = [
        [brake["id"], held(brake), clock_time(brake["expires_at"]),
         relative(brake["expires_at"], now), brake["reason"], brake["by"]]
        for brake in told["brakes"]
    ]  # fmt: skip
    shown = table(COLUMNS, rows, width_of_output(), flow={"HOLDS", "REASON"})
    click.echo(shown if rows else "no brake is on")


def _put_on(node: Node, given: dict[str, Any]) -> None:
    read = Reading(given, node.now())
    body = {
        "kind": given["kind"],
        "labels": read.labels("--label", "labels"),
        "for_s": read.span_s("--for", "for_"),
        "until": read.when("--until", "until"),
        "reason": given["reason"],
    }
    if given["kind"] is None and not given["labels"]:
        read.faults.append("--kind or --label: say what is to be held")
    if given["for_"] is not None and given["until"] is not None:
        read.faults.append("--for and --until exclude each other")
    if not given["reason"]:
        read.faults.append("--reason: say why; whoever finds the brake asks")
    read.finish()
    document = {key: value for key, value in body.items() if value is not None}
    brake = node.ask(lambda api: api.post("/v1/brake", document))
    if node.as_json:
        node.print_json(brake)
    else:
        click.echo(f"brake {brake_told(brake, node.now())}")


def _release(node: Node, number: str) -> None:
    if not number.isdecimal():
        raise click.UsageError(f"--release: {number!r} is not a brake's number; see agentctl brake")
    told = node.ask(lambda api: api.call("DELETE", f"/v1/brake/{number}"))
    if node.as_json:
        node.print_json(told or {"id": int(number)})
    else:
        click.echo(f"brake {number} is released")
