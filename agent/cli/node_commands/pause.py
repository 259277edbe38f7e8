"""`agentctl pause`: nothing starts on this node, or of one recurring action, until resumed."""

from __future__ import annotations

import click

from agent.cli import completing
from agent.cli.door import Node
from agent.cli.node_commands.command import node_command


@click.command("pause")
@click.argument("rule_id", metavar="[ID]", required=False, shell_complete=completing.rule_ids)
@click.option("--reason", help="Why; shown until it is resumed.")
@node_command
def command(node: Node, rule_id: str | None, reason: str | None) -> None:
    """Start nothing on this node (or of the recurring action ID); what runs goes on."""
    if rule_id is not None:
        from agent.cli.node_commands.recurring import pause_rule  # noqa: PLC0415

        pause_rule(node, rule_id, reason)
        return
    told = node.ask(lambda api: api.post("/v1/pause", {"reason": reason} if reason else {}))
    if node.as_json:
        node.print_json(told)
        return
    more = f"; {len(told['running'])} still run" if told["running"] else ""
    click.echo(f"paused: nothing starts until `agentctl resume`{more}")
