"""`corectl dispatch`: an action to a node, to several, or to any of them; and waiting for it."""

from __future__ import annotations

import time
from typing import Any

import click

from agent.cli.api_client import ApiClient, ApiRefused, Unreachable, segment
from agent.cli.core_commands.context import CoreContext
from agent.cli.exits import ACTION_FAILED
from agent.cli.outcomes import action_ids, ended_line, outcome_told
from agent.cli.output import Command, json_option, now, show, wants_json
from agent.cli.values import instant, json_value, span_s, start
from agent.domain.phase import ENDED

WAIT_PER_CALL_S = 55.0
AWAY_S_MAX = 60.0  # so long may a restart of the core take while somebody waits
AWAY_AGAIN_S = 0.2
_FAILED = "failed"


@click.command("dispatch", cls=Command)
@click.argument("kind")
@click.option("--node", "nodes", multiple=True, help="The node that is to run it; one.")
@click.option("--selector", help="Every node that this matches, as role=web,zone in (a, b).")
@click.option(
    "--label", "labels", multiple=True, metavar="K=V",
    help="Every node with this label; beside --node or --selector a label of the action itself.",
)  # fmt: skip
@click.option("--any", "any_one", is_flag=True, help="One of the nodes that match, not all.")
@click.option("--payload", help="JSON, @file, or @- for standard input.")
@click.option("--metadata", help="JSON, @file, or @-: stored, shown, given to the script.")
@click.option("--at", help="Not before this date, as 2026-01-15T12:00:00Z or +10m.")
@click.option("--in", "delay", help="Not before this time from now, as 10s, 5m, 1h30m.")
@click.option("--until", help="The window's end: not started by then, it will not be.")
@click.option("--app", "apps", multiple=True, help="Never beside another one of this app.")
@click.option("--service", help="Which service it is about; for lists.")
@click.option("--id", "action_id", help="An id of your own; a repeated one is refused.")
@click.option("--timeout", help="Stopped after this time, as 30s.")
@click.option("--attempts", type=click.IntRange(1, 1000), help="Tried so often, if it fails.")
@click.option("--correlation-id", help="Shown and filterable everywhere.")
@click.option("--dedup-key", help="Of several with this key only the first one is dispatched.")
@click.option("--dedup-ttl", metavar="SPAN", help="For so long, as 1h; a day unless said.")
@click.option(
    "--risk", type=click.Choice(["safe", "guarded", "dangerous"]),
    help="At least this; guarded and dangerous wait for an approval.",
)  # fmt: skip
@click.option("--approve", is_flag=True, help="Approve it in the same step (role approver).")
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
    """Run KIND on a node or on several, now or later."""
    core: CoreContext = context.obj
    limit_s = wait_limit_s(wait_for, wait=wait)
    given["node"] = _one_node(given.pop("nodes"))
    client = core.client()
    outcome = _send(client, _definition(kind, given), dry_run=given["dry_run"])
    if limit_s is None or given["dry_run"]:
        show(context, outcome, outcome_told(outcome, given["node"], now()))
    else:
        show_end(context, client, outcome, limit_s)
    if any(one["outcome"] == _FAILED for one in outcome.get("actions", ())):
        context.exit(ACTION_FAILED)


def _send(client: ApiClient, document: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
    try:
        found: dict[str, Any] = client.post(
            "/v1/dispatch", document, dry_run=True if dry_run else None
        )
    except ApiRefused as error:
        named = {"node", "selector", "labels"} & document.keys()
        if not named and [fault.get("path") for fault in error.faults] == ["node"]:
            raise click.UsageError(
                "say where: --node, --selector or --label (this core has no default_target)"
            ) from None
        raise
    return found


def show_end(
    context: click.Context, client: ApiClient, outcome: dict[str, Any], limit_s: float
) -> None:
    """Wait for what was dispatched, and tell how each ended; exit code 1 unless all are DONE."""
    names = action_ids(outcome)
    if not names:
        show(context, outcome, outcome_told(outcome, None, now()))
        context.exit(ACTION_FAILED)
    until_s = time.monotonic() + limit_s
    documents = []
    for name in names:
        try:
            left_s = max(0.0, until_s - time.monotonic())
            documents.append(wait_until_ended(client, name, left_s))
        except BaseException:
            click.echo(f"corectl: not waiting any more; {name} goes on", err=True)
            raise
        if len(names) > 1 and not wants_json(context):
            click.echo(f"{documents[-1]['node']}: {ended_line(documents[-1])}")
    if len(names) == 1:
        show(context, documents[0], ended_line(documents[0]))
    elif wants_json(context):
        show(context, {**outcome, "ended": documents}, "")
    if any(document["phase"] != "DONE" for document in documents):
        context.exit(ACTION_FAILED)


def wait_limit_s(span: str | None, *, wait: bool) -> float | None:
    """How long to wait at most; None where nobody asked to."""
    if span is not None:
        return span_s(span, "--wait-for")
    return float("inf") if wait else None


def _one_node(nodes: tuple[str, ...]) -> str | None:
    """Several would be several actions, each with an id and an outcome of its own."""
    if len(set(nodes)) > 1:
        given = ", ".join(nodes)
        raise click.UsageError(
            f"--node: one node per dispatch, not {given}; or --selector 'node in ({given})'"
        )
    return nodes[0] if nodes else None


def _definition(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    document = {
        "kind": kind,
        "node": given["node"],
        "selector": given["selector"],
        "labels": _labels(given["labels"]),
        "pick": "any" if given["any_one"] else None,
        "id": given["action_id"],
        "payload": json_value(given["payload"], "--payload"),
        "metadata": json_value(given["metadata"], "--metadata"),
        "from_date": start(given["at"], given["delay"], now()),
        "to_date": instant(given["until"], "--until", now()),
        "app_names": list(given["apps"]) or None,
        "service": given["service"],
        "timeout_s": span_s(given["timeout"], "--timeout"),
        "retry": None if given["attempts"] is None else {"max_attempts": given["attempts"]},
        "correlation_id": given["correlation_id"],
        "dedup_key": given["dedup_key"],
        "dedup_ttl_s": span_s(given["dedup_ttl"], "--dedup-ttl"),
        "risk_level": given["risk"],
        "approve": given["approve"] or None,
    }
    return {name: value for name, value in document.items() if value is not None}


def _labels(given: tuple[str, ...]) -> dict[str, str] | None:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.UsageError(f"--label: {text!r} is not of the form key=value")
        found[name] = value
    return found or None


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
