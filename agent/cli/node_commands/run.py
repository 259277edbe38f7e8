"""`agentctl run`: a new action of this node; with `--wait`, its result is the exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from agent.cli.api_client import segment
from agent.cli.door import Node
from agent.cli.exits import ACTION_FAILED, INTERRUPTED, UNREACHABLE, Failure
from agent.cli.node_commands.command import node_command
from agent.cli.node_commands.show import describe
from agent.cli.times import read_when
from agent.cli.values import json_value
from agent.domain.instants import format_instant, parse_span_s

WAIT_S = 5.0  # per request; shorter than the socket's patience
AWAY_S_MAX = 60.0  # so long may a restart of agentd take while somebody waits
AWAY_AGAIN_S = 0.2

T = TypeVar("T")


@click.command("run")
@click.argument("kind")
@click.option("--payload", metavar="JSON|@FILE", help="What the script is given; @- is stdin.")
@click.option("--metadata", metavar="JSON|@FILE", help="Kept and shown with the action.")
@click.option("--at", metavar="WHEN", help="Start then: 2026-01-15T12:00:00+01:00, or +10m.")
@click.option("--in", "after", metavar="SPAN", help="Start after 10s, 5m, 1h30m, 2d.")
@click.option("--until", metavar="WHEN", help="The window's end; +10m counts from now.")
@click.option("--app", "apps", multiple=True, metavar="NAME", help="Never beside another of NAME.")
@click.option("--id", "action_id", help="Default: a fresh one.")
@click.option("--timeout", metavar="SPAN", help="Stop it after so long.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--wait", is_flag=True, help="Until it has ended; exit code 1 unless it FINISHED.")
@node_command
def command(node: Node, wait: bool, **given: Any) -> None:
    """Run KIND on this node: at once, or when told."""
    document = compose(given, node.now())
    action = node.ask(lambda api: api.post("/v1/actions", document))
    if wait:
        action = _wait(node, action)
    if node.as_json:
        node.print_json(action)
    elif wait:
        click.echo("\n".join(describe(action, node.now())))
    else:
        click.echo(action["id"])
    if wait and action["execution_status"] != "FINISHED":
        sys.exit(ACTION_FAILED)


def compose(given: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The definition that the options describe. Raises `UsageError` with all faults at once."""
    faults: list[str] = []

    def read(option: str, key: str, reader: Callable[[str], T]) -> T | None:
        if given[key] is None:
            return None
        try:
            return reader(given[key])
        except ValueError as error:
            faults.append(f"{option}: {error}")
        except click.UsageError as error:
            faults.append(error.message)
        return None

    if given["at"] is not None and given["after"] is not None:
        faults.append("--at and --in exclude each other")
    start = read("--at", "at", lambda text: read_when(text, now))
    after_s = read("--in", "after", parse_span_s)
    if after_s is not None:
        start = now + timedelta(seconds=after_s)
    end = read("--until", "until", lambda text: read_when(text, now))
    document = {
        "kind": given["kind"],
        "id": given["action_id"],
        "payload": read("--payload", "payload", json_of("--payload")),
        "metadata": read("--metadata", "metadata", json_of("--metadata")),
        "from_date": start and format_instant(start),
        "to_date": end and format_instant(end),
        "app_names": list(given["apps"]) or None,
        "timeout_s": read("--timeout", "timeout", parse_span_s),
        "dry_run": given["dry_run"] or None,
    }
    if faults:
        raise click.UsageError("\n".join(faults))
    return {key: value for key, value in document.items() if value is not None}


def json_of(option: str) -> Callable[[str], Any]:
    """A reader of JSON, `@FILE` or `@-` for that option."""
    return lambda text: json_value(text, option)


def _wait(node: Node, action: dict[str, Any]) -> dict[str, Any]:
    """Until the action has ended; a restart of agentd meanwhile is waited out."""
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
