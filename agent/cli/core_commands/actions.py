"""`corectl actions | show | history | cancel`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from agent.cli.api_client import ApiClient, segment
from agent.cli.core_commands.context import CoreContext
from agent.cli.output import Command, json_option, now
from agent.cli.output import show as show_document
from agent.cli.rules import in_words, in_zone, rule_told, state_of, terms
from agent.cli.tables import pairs, table, width_of_output
from agent.cli.times import relative
from agent.wire import strict_json

PAGE = 500
_EVENT_FRAME = frozenset(
    {"id", "node", "seq", "type", "action_id", "at", "stored_at", "by", "execution", "definition"}
)

_node_option = click.option("--node", help="Which node, where several have this id.")
_owner_option = click.option("--owner", type=click.Choice(["core", "node"]), help="Whose.")


@click.command("actions", cls=Command)
@click.option("--node", help="Only this node's.")
@click.option("--status", help="Only this execution status, as STARTED.")
@click.option("--phase", help="Only this phase, as RUNNING.")
@click.option("--kind", help="Only this kind.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True)
@json_option
@click.pass_context
def actions(context: click.Context, /, limit: int, as_json: bool, **wanted: Any) -> None:
    """The newest actions."""
    core: CoreContext = context.obj
    client = core.client()
    for word in ("status", "phase"):
        wanted[word] = wanted[word].upper() if wanted[word] else None
    listed: list[dict[str, Any]] = []
    after: str | None = None
    while len(listed) < limit:
        size = min(PAGE, limit - len(listed))
        page = client.get("/v1/actions", after=after, limit=size, **wanted)
        listed += page["actions"]
        after = page["next"]
        if after is None:
            break
    readable = _actions_table(listed)
    if after is not None:
        readable += f"\n(the newest {limit}; more with --limit)"
    show_document(context, {"actions": listed, "next": after}, readable)


def _actions_table(listed: list[dict[str, Any]]) -> str:
    if not listed:
        return "no actions"
    moment = now()
    rows = [
        [one["id"], one["node"], one["kind"], one["phase"], _when(one, moment)] for one in listed
    ]
    return table(["ID", "NODE", "KIND", "PHASE", "WHEN"], rows, width_of_output())


def _when(one: dict[str, Any], moment: Any) -> str:
    """The instant that says most about the phase."""
    if one["phase"] == "SCHEDULED":
        return relative(one.get("from_date"), moment)  # a recurring action has none
    return relative(one["ended_at"] or one["started_at"] or one["created_at"], moment)


@click.command("show", cls=Command)
@click.argument("action_id", metavar="ID")
@_node_option
@_owner_option
@json_option
@click.pass_context
def show(
    context: click.Context, action_id: str, node: str | None, owner: str | None, as_json: bool
) -> None:
    """Everything about one action."""
    core: CoreContext = context.obj
    found = core.client().get(f"/v1/actions/{segment(action_id)}", node=node, owner=owner)
    show_document(context, found, _readable(found))


def _readable(one: dict[str, Any]) -> str:
    requested = one["requested"]
    output = one["output"] or {}
    return pairs(
        [
            ("id", one["id"]),
            ("node", one["node"]),
            ("kind", one["kind"]),
            ("phase", one["phase"]),
            ("status", one["execution_status"]),
            ("reason", one["reason"]),
            ("attempt", one["attempt"] or None),
            ("exit code", one["exit_code"]),
            ("error", one["error"]),
            *_recurring(one),
            ("asked", f"{requested['type']} at {requested['at']}, not settled yet"
             if requested else None),
            ("refused", _compact(one["refused"])),
            ("lost", f"{one['lost_at']} ({one['lost_reason']})" if one["lost_at"] else None),
            ("from", one.get("from_date")),
            ("until", one.get("to_date")),
            ("created", one["created_at"]),
            ("started", one["started_at"]),
            ("ended", one["ended_at"]),
            ("delivered", {True: "yes", False: "not yet", None: None}[one["delivered"]]),
            ("correlation", one.get("correlation_id")),
            ("payload", _compact(one.get("payload"))),
            ("metadata", _compact(one.get("metadata"))),
            ("output", output.get("tail") if isinstance(output.get("tail"), str) else None),
        ]
    )  # fmt: skip


def _recurring(one: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """How a recurring action stands on its node, as it was reported last."""
    if one.get("schedule") is None:
        return
    yield "schedule", in_words(one["schedule"])
    yield from terms(one["schedule"])
    standing = one.get("recurring")
    if standing is None:
        yield "on the node", "not reported yet"
        return
    zone = standing.get("zone")
    yield "on the node", state_of({"state": "?", **standing})
    for name, key in (("next", "next_at"), ("last", "last_nominal_at"), ("over since", "ended_at")):
        if standing.get(key):
            yield name, f"{in_zone(standing[key], zone)}  ({relative(standing[key], now())})"
    yield "runs", standing.get("run_count")


def _compact(value: Any) -> str | None:
    return strict_json.encode_text(value) if value else None


@click.command("history", cls=Command)
@click.argument("action_id", metavar="ID")
@_node_option
@_owner_option
@json_option
@click.pass_context
def history(
    context: click.Context, action_id: str, node: str | None, owner: str | None, as_json: bool
) -> None:
    """What happened to one action, in order."""
    core: CoreContext = context.obj
    found = _whole_history(core.client(), action_id, node, owner)
    rows = [[one["at"], one["by"], one["type"], _story(one)] for one in found["events"]]
    readable = table(["AT", "BY", "EVENT", "WHAT"], rows, width_of_output(), flow={"WHAT"})
    show_document(context, found, readable)


def _whole_history(
    client: ApiClient, action_id: str, node: str | None, owner: str | None
) -> dict[str, Any]:
    path = f"/v1/actions/{segment(action_id)}/history"
    found: dict[str, Any] = client.get(path, node=node, owner=owner)
    while found["next"] is not None:
        page = client.get(path, node=node, owner=owner, after=found["next"])
        found["events"] += page["events"]
        found["next"] = page["next"]
    return found


def _story(event: dict[str, Any]) -> str:
    if event["type"] == "transition":
        return f"{event.get('from')} → {event.get('to')} ({event.get('reason')})"
    rule = event.get("recurring")
    if isinstance(rule, dict):
        definition = event.get("definition") or {}
        return rule_told(rule, definition.get("revision"), definition.get("schedule"))
    rest = {k: v for k, v in event.items() if k not in _EVENT_FRAME and v is not None}
    return " ".join(f"{key}={value}" for key, value in rest.items())


@click.command("cancel", cls=Command)
@click.argument("action_id", metavar="ID")
@click.option("--reason", help="Why; kept in the history.")
@_node_option
@_owner_option
@json_option
@click.pass_context
def cancel(
    context: click.Context,
    action_id: str,
    reason: str | None,
    node: str | None,
    owner: str | None,
    as_json: bool,
) -> None:
    """Withdraw an action; a running one is stopped."""
    core: CoreContext = context.obj
    body = {"if_started": "stop"} | ({"reason": reason} if reason else {})
    found = core.client().post(
        f"/v1/actions/{segment(action_id)}/cancel", body, node=node, owner=owner
    )
    asked = "asked the node" if found["requested"] else "nothing is left to ask"
    show_document(context, found, f"{found['id']} {found['phase']} ({asked})")
