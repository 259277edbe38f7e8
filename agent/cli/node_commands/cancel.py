"""`agentctl cancel`: this node's own decision not to go on with an action."""

from __future__ import annotations

import click

from agent.cli import completing
from agent.cli.api_client import segment
from agent.cli.door import Node
from agent.cli.node_commands.command import node_command


@click.command("cancel")
@click.argument("action_id", metavar="ID", shell_complete=completing.waiting_ids)
@node_command
def command(node: Node, action_id: str) -> None:
    """Cancel an action: at once if it waits, after stopping it if it runs."""
    action = node.ask(lambda api: api.post(f"/v1/actions/{segment(action_id)}/cancel"))
    if node.as_json:
        node.print_json(action)
    elif "schedule" in action:
        click.echo(f"{action_id} is over: no occurrence of it any more")
    elif action["execution_status"] == "STARTED":
        click.echo(f"{action_id} runs and is being stopped; see: agentctl show {action_id}")
    else:
        click.echo(f"{action_id} is cancelled and will not start")
