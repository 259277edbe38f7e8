"""`agentctl sync`: ask the core now, instead of waiting for the long poll."""

from __future__ import annotations

import click

from agent.cli.door import Node
from agent.cli.exits import UNREACHABLE, Failure
from agent.cli.node_commands.command import node_command


@click.command("sync")
@node_command
def command(node: Node) -> None:
    """Pull from the core once, now, and say what came. Exit code 3 if the core is away."""
    try:
        told = node.ask(lambda api: api.post("/v1/sync"))
    except Failure as error:
        if error.code == "unavailable":  # the node is well; whoever scripts this waits and retries
            error.exit_code = UNREACHABLE  # type: ignore[misc]  # click declares it on the class
        raise
    if node.as_json:
        node.print_json(told)
        return
    click.echo(f"pulled: {told['definitions']} definitions, {told['requests']} requests")
