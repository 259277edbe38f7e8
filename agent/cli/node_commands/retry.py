"""`agentctl retry`: a new action like one that has ended; the old one stays as it is."""

from __future__ import annotations

import click

from agent.cli import completing
from agent.cli.api_client import segment
from agent.cli.door import Node
from agent.cli.node_commands.command import node_command
from agent.cli.waiting import tell_new


@click.command("retry")
@click.argument("action_id", metavar="ID", shell_complete=completing.ended_ids)
@click.option("--wait", is_flag=True, help="Until it has ended; exit code 1 unless it FINISHED.")
@node_command
def command(node: Node, action_id: str, wait: bool) -> None:
    """Run an action that has ended once more, as a new one with the same definition."""
    action = node.ask(lambda api: api.post(f"/v1/actions/{segment(action_id)}/retry"))
    tell_new(node, action, wait=wait)
