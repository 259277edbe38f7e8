"""Waiting for an action of this node to end; a restart of agentd meanwhile is waited out."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from agent.cli.api_client import segment
from agent.cli.door import Node
from agent.cli.exits import ACTION_FAILED, INTERRUPTED, UNREACHABLE, Failure

WAIT_S = 5.0  # per request; shorter than the socket's patience
AWAY_S_MAX = 60.0  # so long may a restart of agentd take while somebody waits
AWAY_AGAIN_S = 0.2


def until_ended(node: Node, action: dict[str, Any]) -> dict[str, Any]:
    """The action once it is final. Ctrl-C ends the waiting, not the action."""
    path = f"/v1/actions/{segment(action['id'])}"
    away_since: float | None = None
    try:
        while action["execution_status"] in ("NULL", "STARTED"):
            try:
                action = node.ask(lambda api: api.get(path, wait=WAIT_S, wait_s=WAIT_S))
                away_since = None
            except Failure as error:
                if error.exit_code != UNREACHABLE:
                    raise
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > AWAY_S_MAX:
                    raise
                time.sleep(AWAY_AGAIN_S)
    except KeyboardInterrupt:
        click.echo(f"agentctl: not waiting any more; {action['id']} goes on", err=True)
        sys.exit(INTERRUPTED)
    return action


def tell_new(node: Node, action: dict[str, Any], *, wait: bool) -> None:
    """A new action: its id, or with `wait` how it ended, which is also the exit code."""
    if wait:
        action = until_ended(node, action)
    if node.as_json:
        node.print_json(action)
    elif wait:
        from agent.cli.node_commands.show import describe  # noqa: PLC0415  (only who waits)

        click.echo("\n".join(describe(action, node.now())))
    else:
        click.echo(action["id"])
    if wait and action["execution_status"] != "FINISHED":
        sys.exit(ACTION_FAILED)
