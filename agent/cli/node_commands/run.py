"""`agentctl run`: a new action of this node; with `--wait`, its result is the exit code.

With a schedule it is a recurring action, which `agentctl recurring` looks after from then on.
"""

from __future__ import annotations

from typing import Any

import click

from agent.cli import completing
from agent.cli.defining import compose, definition_options
from agent.cli.door import Node
from agent.cli.node_commands.command import node_command
from agent.cli.waiting import tell_new


@click.command("run")
@click.argument("kind", shell_complete=completing.kinds)
@definition_options
@click.option("--id", "action_id", help="Default: a fresh one.")
@click.option("--wait", is_flag=True, help="Until it has ended; exit code 1 unless it FINISHED.")
@node_command
def command(node: Node, kind: str, action_id: str | None, wait: bool, **given: Any) -> None:
    """Run KIND on this node: at once, when told, or again and again."""
    document = {"kind": kind, **({"id": action_id} if action_id else {})}
    document |= compose(given, node.now())
    if "schedule" not in document:
        tell_new(node, node.ask(lambda api: api.post("/v1/actions", document)), wait=wait)
        return
    if wait:
        raise click.UsageError("--wait: a recurring action has no end to wait for")
    tell_new_rule(node, document)


def tell_new_rule(node: Node, document: dict[str, Any]) -> None:
    """Create it; its id on stdout, its next instant on stderr."""
    from agent.cli.rules import in_words, in_zone  # noqa: PLC0415  (few lines have a schedule)

    rule = node.ask(lambda api: api.post("/v1/recurring", document))
    if node.as_json:
        node.print_json(rule)
        return
    click.echo(rule["id"])
    coming = f"next {in_zone(rule.get('next_at'), rule.get('zone'))}"
    if rule.get("next_at") is None and rule["schedule"].get("date"):
        coming = "that is past and will not run; it is told as missed"
    click.echo(f"recurring: {in_words(rule['schedule'])}; {coming}", err=True)
