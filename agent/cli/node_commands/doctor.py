"""`agentctl doctor`: the live state checked against what must be true, with advice."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from agent.cli.door import Node
from agent.cli.exits import ACTION_FAILED
from agent.cli.node_commands.command import node_command
from agent.cli.tables import sentence, width_of_output

_SIGNS: Mapping[str, str] = {"ok": "✓", "warn": "!", "fail": "✗"}
CHECK_S_MAX = 60.0  # an integrity check of a large database takes its time


@click.command("doctor")
@node_command
def command(node: Node) -> None:
    """Check this node: database, processes, kinds, clock, disk, core. Exit code 1 if one fails."""
    told = node.ask(lambda api: api.get("/v1/doctor", wait_s=CHECK_S_MAX))
    checks = told["checks"]
    if node.as_json:
        node.print_json(told)
    else:
        click.echo("\n".join(describe(checks, width_of_output())))
    if any(check["state"] == "fail" for check in checks):
        sys.exit(ACTION_FAILED)


def describe(checks: list[Mapping[str, Any]], width: int | None = None) -> Iterator[str]:
    """A line per check; below it what else it found, and advice where something is to be done."""
    widest = max((len(check["name"]) for check in checks), default=0)
    for check in checks:
        sign = _SIGNS.get(check["state"], "?")
        below = " " * (widest + 4)
        head = f"{sign} {check['name']:<{widest}}  "
        found = check["found"] if width is not None else check["found"].replace("\n", "; ")
        for part in found.split("\n"):
            yield from sentence(part, width, first=head, rest=below)
            head = below
        if check.get("advice") and check["state"] != "ok":
            yield from sentence(check["advice"], width, first=f"{below}→ ", rest=f"{below}  ")
    counts = {state: sum(1 for c in checks if c["state"] == state) for state in _SIGNS}
    yield f"{counts['ok']} well, {counts['warn']} to look at, {counts['fail']} wrong"
