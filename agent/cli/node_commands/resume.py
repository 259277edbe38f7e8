"""`agentctl resume`: the end of a pause."""

from __future__ import annotations

import click

from agent.cli import completing
from agent.cli.door import Node
from agent.cli.node_commands.command import node_command


@click.command("resume")
@click.argument("rule_id", metavar="[ID]", required=False, shell_complete=completing.rule_ids)
@node_command
def command(node: Node, rule_id: str | None) -> None:
    """Go on after `pause` or `drain` (or with the recurring action ID)."""
    if rule_id is not None:
        from agent.cli.node_commands.recurring import resume_rule  # noqa: PLC0415

        resume_rule(node, rule_id)
        return
    told = node.ask(lambda api: api.post("/v1/resume"))
    if node.as_json:
        node.print_json(told)
    else:
        click.echo("resumed: what is due starts, by window, deadline and catch-up")
