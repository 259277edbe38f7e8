"""`agentctl doctor`: the live state checked against what must be true, with advice."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from agent.cli.door import Node
from agent.cli.exits import ACTION_FAILED
from agent.cli.node_commands.command import node_command
from agent.cli.tables import text

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
        click.echo("\n".join(describe(checks)))
    if any(check["state"] == "fail" for check in checks):
        sys.exit(ACTION_FAILED)


def describe(checks: list[Mapping[str, Any]]) -> Iterator[str]:
    """A line per check; advice below it where something is to be done."""
    widest = max((len(check["name"]) for check in checks), default=0)
    for check in checks:
        sign = _SIGNS.get(check["state"], "?")
        yield _one_line(f"{sign} {check['name']:<{widest}}  {check['found']}")
        if check.get("advice") and check["state"] != "ok":
            yield _one_line(f"  {'':<{widest}}  → {check['advice']}")
    counts = {state: sum(1 for c in checks if c["state"] == state) for state in _SIGNS}
    yield f"{counts['ok']} well, {counts['warn']} to look at, {counts['fail']} wrong"


def _one_line(value: str) -> str:
    return text(value).replace("\n", " ")
