"""`corectl dispatch`: one action to one node, and waiting for it."""

from __future__ import annotations

import time
from typing import Any

import click

from agent.cli.api_client import ApiClient, ApiRefused, Unreachable, segment
from agent.cli.core_commands.context import CoreContext
from agent.cli.exits import ACTION_FAILED
from agent.cli.output import Command, json_option, now, show
from agent.cli.times import relative
from agent.cli.values import instant, json_value, span_s, start
from agent.domain.phase import ENDED

WAIT_PER_CALL_S = 55.0
AWAY_S_MAX = 60.0  # so long may a restart of the core take while somebody waits
AWAY_AGAIN_S = 0.2


@click.command("dispatch", cls=Command)
@click.argument("kind")
@click.option(
    "--node", "nodes", required=True, multiple=True, help="The node that is to run it; one."
)
@click.option("--payload", help="JSON, @file, or @- for standard input.")
@click.option("--metadata", help="JSON, @file, or @-: stored, shown, given to the script.")
@click.option("--at", help="Not before this date, as 2026-01-15T12:00:00Z or +10m.")
@click.option("--in", "delay", help="Not before this time from now, as 10s, 5m, 1h30m.")
@click.option("--until", help="The window's end: not started by then, it will not be.")
@click.option("--app", "apps", multiple=True, help="Never beside another one of this app.")
@click.option("--id", "action_id", help="An id of your own; a repeated one is refused.")
@click.option("--timeout", help="Stopped after this time, as 30s.")
@click.option("--correlation-id", help="Shown and filterable everywhere.")
@click.option(
    "--dry-run", is_flag=True,
    help="Only check: nothing is stored or sent. (A kind's own dry run: agentctl run --dry-run.)",
)  # fmt: skip
@click.option("--wait", is_flag=True, help="Until it has ended; exit code 1 unless it is done.")
@click.option("--wait-for", metavar="SPAN", help="The same, but at most so long, as 30s.")
@json_option
@click.pass_context
def dispatch(
    context: click.Context, /, kind: str, wait: bool, wait_for: str | None, **given: Any
) -> None:
    """Run KIND on a node, now or later."""
    core: CoreContext = context.obj
    limit_s = _wait_limit_s(wait_for, wait=wait)
    given["node"] = _one_node(given.pop("nodes"))
    client = core.client()
    outcome = client.post(
        "/v1/dispatch", _definition(kind, given), dry_run=True if given["dry_run"] else None
    )
    if limit_s is None or given["dry_run"]:
        show(context, outcome, _told(outcome, given["node"]))
        return
    try:
        document = wait_until_ended(client, outcome["action_id"], limit_s)
    except BaseException:
        click.echo(f"corectl: not waiting any more; {outcome['action_id']} goes on", err=True)
        raise
    show(context, document, ended_line(document))
    if document["phase"] != "DONE":
        context.exit(ACTION_FAILED)


def _wait_limit_s(span: str | None, *, wait: bool) -> float | None:
    """How long to wait at most; None where nobody asked to."""
    if span is not None:
        return span_s(span, "--wait-for")
    return float("inf") if wait else None


def _one_node(nodes: tuple[str, ...]) -> str:
    """Several would be several actions, each with an id and an outcome of its own."""
    if len(set(nodes)) > 1:
        given = ", ".join(nodes)
        raise click.UsageError(f"--node: one node per dispatch, not {given}; dispatch to each")
    return nodes[0]


def _definition(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    document = {
        "kind": kind,
        "node": given["node"],
        "id": given["action_id"],
        "payload": json_value(given["payload"], "--payload"),
        "metadata": json_value(given["metadata"], "--metadata"),
        "from_date": start(given["at"], given["delay"], now()),
        "to_date": instant(given["until"], "--until", now()),
        "app_names": list(given["apps"]) or None,
        "timeout_s": span_s(given["timeout"], "--timeout"),
        "correlation_id": given["correlation_id"],
    }
    return {name: value for name, value in document.items() if value is not None}


def _told(outcome: dict[str, Any], node: str) -> str:
    action_id = outcome["action_id"]
    if outcome["outcome"] == "dry_run":
        return f"{outcome['would_be']} on {node} (dry run: nothing was changed)"
    if outcome["outcome"] == "scheduled":
        when = relative(outcome["scheduled_for"], now())
        return f"{action_id} scheduled on {node} for {outcome['scheduled_for']} ({when})"
    return f"{action_id} {outcome['outcome']} on {node}"


def wait_until_ended(client: ApiClient, action_id: str, limit_s: float) -> dict[str, Any]:
    """The action once it has ended, or as it is when the time is over.

    A restart of the core meanwhile is waited out. Raises as the client does.
    """
    until_s = time.monotonic() + limit_s
    away_since: float | None = None
    while True:
        wait_s = max(0.0, min(WAIT_PER_CALL_S, until_s - time.monotonic()))
        try:
            document: dict[str, Any] = client.get(
                f"/v1/actions/{segment(action_id)}", wait=wait_s, wait_s=wait_s
            )
        except (Unreachable, ApiRefused) as error:
            away_since = away_since or time.monotonic()
            is_refused = isinstance(error, ApiRefused) and error.status < 500
            if is_refused or time.monotonic() >= min(away_since + AWAY_S_MAX, until_s):
                raise
            time.sleep(AWAY_AGAIN_S)
            continue
        away_since = None
        if document["phase"] in ENDED or time.monotonic() >= until_s:
            return document


def ended_line(document: dict[str, Any]) -> str:
    """One line on how it ended, or that it has not."""
    line = f"{document['id']} {document['phase']}"
    if document["phase"] not in ENDED:
        return f"{line}: it has not ended yet"
    details = [
        f"exit code {document['exit_code']}" if document["exit_code"] is not None else None,
        document["reason"],
        document["error"],
    ]
    told = ", ".join(dict.fromkeys(detail for detail in details if detail))
    return f"{line} ({told})" if told else line
