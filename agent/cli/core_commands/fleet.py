"""`corectl label | decommission | freeze | thaw | freezes | nudge`: what is done with nodes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from agent.cli.api_client import segment
from agent.cli.core_commands.context import CoreContext
from agent.cli.output import Command, json_option, now, show
from agent.cli.tables import table, width_of_output
from agent.cli.times import relative
from agent.cli.values import instant, span_s

NUDGE_S_MAX = 60.0
TOKEN_BYTES_MAX = 4096
NAMED_MAX = 10


@click.command("label", cls=Command)
@click.argument("node")
@click.argument("edits", nargs=-1, metavar="[K=V | K-]...")
@click.option("--api-url", help="Where the node's own API can be reached; '' takes it back.")
@click.option(
    "--api-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the token of that API (the node's api.token).",
)
@json_option
@click.pass_context
def label(
    context: click.Context,
    node: str,
    edits: tuple[str, ...],
    api_url: str | None,
    api_token_file: Path | None,
    as_json: bool,
) -> None:
    """Set labels of a node (K=V), take them back (K-), or say where its API is."""
    core: CoreContext = context.obj
    body: dict[str, Any] = {}
    if edits:
        body["labels"] = _label_edits(edits)
    if api_url is not None:
        body["api_url"] = api_url or None
    if api_token_file is not None:
        body["api_token"] = _token(api_token_file)
    if not body:
        raise click.UsageError("say what to set, as env=prod, or to take back, as env-")
    found = core.client().call("PATCH", f"/v1/agents/{segment(node)}", body=body)
    api = f"; its API: {found['api_url'] or 'none'}" if api_url is not None else ""
    api += "; its API's token is set" if api_token_file is not None else ""
    show(context, found, f"{node}: {labels_told(found['labels'])}{api}")


def _label_edits(edits: tuple[str, ...]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for edit in edits:
        key, equals, value = edit.partition("=")
        if not equals and not edit.endswith("-"):
            raise click.UsageError(f"{edit!r} is neither K=V nor K-")
        found[key if equals else edit[:-1]] = value if equals else None
    return found


def _token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(TOKEN_BYTES_MAX).decode("ascii").strip()
    except OSError as error:
        raise click.UsageError(f"--api-token-file: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"--api-token-file: {path} does not hold a token") from None


def labels_told(labels: dict[str, str]) -> str:
    """Labels on one line, without the one that every node has."""
    return ", ".join(f"{k}={v}" for k, v in sorted(labels.items()) if k != "node") or "no labels"


@click.command("decommission", cls=Command)
@click.argument("node")
@click.option("--reason", required=True, help="Why; kept in its history.")
@json_option
@click.pass_context
def decommission(context: click.Context, node: str, reason: str, as_json: bool) -> None:
    """Take a node out of service; `enroll-token --node` makes a token that brings it back."""
    core: CoreContext = context.obj
    found = core.client().post(f"/v1/agents/{segment(node)}/decommission", {"reason": reason})
    show(context, found, f"{node} is out of service since {found['decommissioned_at']}")


def _whom(node: str | None, selector: str | None) -> dict[str, Any]:
    if (node is None) == (selector is None):
        raise click.UsageError("say which nodes: NODE, or --selector, as --selector env=prod")
    return {"node": node} if node is not None else {"selector": selector}


@click.command("freeze", cls=Command)
@click.argument("node", required=False)
@click.option("--selector", help="These nodes, as env=prod; all of them: node")
@click.option("--kind", help="Only actions of this kind.")
@click.option("--reason", required=True, help="Why; shown here, and on the nodes.")
@click.option("--for", "for_", metavar="SPAN", help="For so long, as 2h.")
@click.option("--until", metavar="WHEN", help="Until then.")
@json_option
@click.pass_context
def freeze(
    context: click.Context,
    node: str | None,
    selector: str | None,
    kind: str | None,
    reason: str,
    for_: str | None,
    until: str | None,
    as_json: bool,
) -> None:
    """Nothing starts on these nodes from now on; what runs goes on."""
    core: CoreContext = context.obj
    given = {
        "kind": kind,
        "reason": reason,
        "for_s": span_s(for_, "--for"),
        "until": instant(until, "--until", now()),
    }
    body = _whom(node, selector) | {name: one for name, one in given.items() if one is not None}
    made = core.client().post("/v1/agents/freeze", body)
    show(context, made, f"freeze {made['id']} of {_nodes(made['nodes'])}{_apart(made)}")


def _end(one: dict[str, Any], moment: datetime) -> str:
    ends = one["lifted_at"] or one["expires_at"]
    return relative(ends, moment) if ends else "when it is thawed"


def _nodes(count: int) -> str:
    if not count:
        return "no node yet; those that come to match get it"
    return f"{count} node" if count == 1 else f"{count} nodes"


def _apart(one: dict[str, Any]) -> str:
    """Where it does not hold, and why not."""
    named = [
        f"{node['node']} {node['state'].replace('_', ' ')}"
        for node in one["not_frozen"]
        if node["state"] != "requested"
    ]
    more = f", and {len(named) - NAMED_MAX} more" if len(named) > NAMED_MAX else ""
    return f"; not held: {', '.join(named[:NAMED_MAX])}{more}" if named else ""


@click.command("thaw", cls=Command)
@click.argument("freeze_id", metavar="[FREEZE]", required=False)
@click.option("--node", help="What was frozen for this node alone.")
@click.option("--selector", help="What was frozen for exactly this selector.")
@json_option
@click.pass_context
def thaw(
    context: click.Context,
    freeze_id: str | None,
    node: str | None,
    selector: str | None,
    as_json: bool,
) -> None:
    """End a freeze, by its id or as it was made."""
    core: CoreContext = context.obj
    if freeze_id is not None and (node is not None or selector is not None):
        raise click.UsageError("a freeze's id stands alone")
    body = {"id": freeze_id} if freeze_id is not None else _whom(node, selector)
    ended = core.client().post("/v1/agents/thaw", body)
    told = "\n".join(f"thawed {one['id']} ({one['selector']})" for one in ended["freezes"])
    show(context, ended, told)


@click.command("freezes", cls=Command)
@click.option("--over", is_flag=True, help="The latest of those that are over.")
@json_option
@click.pass_context
def freezes(context: click.Context, over: bool, as_json: bool) -> None:
    """The freezes that hold, and how far each has come."""
    core: CoreContext = context.obj
    found = core.client().get("/v1/agents/freezes", over="true" if over else None)
    moment = now()
    rows = [
        [
            one["id"],
            one["selector"],
            one["kind"] or "every kind",
            f"{one['states'].get('frozen', 0)}/{one['nodes']}",
            _end(one, moment),
            one["reason"] + _apart(one),
            one["by"],
        ]
        for one in found["freezes"]
    ]
    ends = "ENDED" if over else "ENDS"
    headers = ["FREEZE", "SELECTOR", "HOLDS", "NODES", ends, "REASON", "BY"]
    empty = "no freeze is over" if over else "nothing is frozen"
    shown = table(headers, rows, width_of_output(), flow={"SELECTOR", "REASON"})
    show(context, found, shown if rows else empty)


@click.command("nudge", cls=Command)
@click.argument("node", required=False)
@click.option("--selector", help="These nodes, as env=prod; all of them: node")
@click.option("--action", help="The node of this action.")
@json_option
@click.pass_context
def nudge(
    context: click.Context,
    node: str | None,
    selector: str | None,
    action: str | None,
    as_json: bool,
) -> None:
    """Look at nodes afresh: pull their state where they can be reached, else ask for it."""
    core: CoreContext = context.obj
    client = core.client()
    if action is not None:
        if node is not None or selector is not None:
            raise click.UsageError("--action stands alone: it says which node")
        told = client.post(f"/v1/actions/{segment(action)}/nudge", wait_s=NUDGE_S_MAX)
        show(context, told, _nudged(told))
        return
    whom = _whom(node, selector)
    if node is not None:
        told = client.post(f"/v1/agents/{segment(node)}/nudge", wait_s=NUDGE_S_MAX)
        show(context, told, _nudged(told))
        return
    told = client.post("/v1/agents/nudge", whom, wait_s=NUDGE_S_MAX)
    lines = "\n".join(map(_nudged, told["nodes"]))
    show(context, told, lines or "no node matches")


def _nudged(one: dict[str, Any]) -> str:
    if one["outcome"] == "pulled":
        return f"{one['node']}: looked at, {one['actions']} actions"
    why = f" ({one['why']})" if one.get("why") else ""
    return f"asked {one['node']} to send its state{why}"
