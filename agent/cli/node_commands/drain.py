"""`agentctl drain`: pause, and wait until nothing runs: before a reboot or an upgrade."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from agent.cli.door import Node
from agent.cli.exits import ACTION_FAILED, INTERRUPTED
from agent.cli.node_commands.command import node_command
from agent.cli.values import span_s

NAMED_MAX = 5
WAIT_S = 5.0  # per request; shorter than the socket's patience


@click.command("drain")
@click.option("--wait", "at_most", metavar="SPAN", help="At most so long; 0: only pause. "
              "Default: until nothing runs.")  # fmt: skip
@click.option("--reason", help="Why; shown until `agentctl resume`.")
@node_command
def command(node: Node, at_most: str | None, reason: str | None) -> None:
    """Start nothing any more, and wait for what runs. Exit code 1 if something still does."""
    limit_s = span_s(at_most, "--wait")
    deadline = None if limit_s is None else time.monotonic() + limit_s
    try:
        told = _wait(node, deadline, reason)
    except KeyboardInterrupt:
        click.echo("agentctl: not waiting any more; this node stays paused", err=True)
        sys.exit(INTERRUPTED)
    if node.as_json:
        node.print_json(told)
    elif told["drained"]:
        click.echo("drained: nothing runs, and nothing starts until `agentctl resume`")
    else:
        click.echo(f"paused, but {_count(told)} still run; see: agentctl list --status STARTED")
    if not told["drained"]:
        sys.exit(ACTION_FAILED)


def _wait(node: Node, deadline: float | None, reason: str | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    shown = None
    while True:
        left_s = WAIT_S if deadline is None else max(0.0, deadline - time.monotonic())
        body: dict[str, Any] = {"wait_s": min(WAIT_S, left_s)}
        if reason:
            body["reason"] = reason
        told = _ask(node, body)
        if told["drained"] or (deadline is not None and time.monotonic() >= deadline):
            return told
        if not node.as_json and _count(told) != shown:
            shown = _count(told)
            names = ", ".join(one["id"] for one in told["running"][:NAMED_MAX])
            more = f" and {shown - NAMED_MAX} more" if shown > NAMED_MAX else ""
            click.echo(f"waiting for {names}{more}", err=True)


def _ask(node: Node, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = node.ask(
        lambda api: api.post("/v1/drain", body, wait_s=body["wait_s"])
    )
    return answer


def _count(told: dict[str, Any]) -> int:
    return len(told["running"])
