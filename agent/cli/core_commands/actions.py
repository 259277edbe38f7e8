"""`corectl actions | show | history | cancel`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import click

from agent.cli.api_client import ApiClient, ApiRefused, segment
from agent.cli.core_commands.context import CoreContext
from agent.cli.core_sentences import NEEDS_NODE, asked_for_by, explain_at_core
from agent.cli.event_sentences import happened
from agent.cli.exits import EXITS, REFUSED, Failure
from agent.cli.output import Command, json_option, now, wants_json
from agent.cli.output import show as show_document
from agent.cli.paging import PAGE, and_more, read_pages
from agent.cli.rules import in_words, in_zone, rule_told, state_of, terms
from agent.cli.tables import pairs, table, width_of_output
from agent.cli.times import relative
from agent.cli.values import instant
from agent.domain.instants import format_instant, parse_span_s
from agent.wire import strict_json

NO_SUCH = 404

_node_option = click.option("--node", help="Which node, where several have this id.")
_owner_option = click.option("--owner", type=click.Choice(["core", "node"]), help="Whose.")


@click.command("actions", cls=Command)
@click.option("--node", help="Only this node's.")
@click.option("--status", help="Only this execution status, as STARTED.")
@click.option("--phase", help="Only this phase, as RUNNING.")
@click.option("--kind", help="Only this kind.")
@click.option("--correlation-id", help="Only those that belong together.")
@click.option("--recurring", "recurring_id", metavar="ID", help="Only occurrences of this one.")
@click.option("--retry-of", metavar="ID", help="Only those that repeat this one.")
@click.option("--service", help="Only those about this service.")
@click.option(
    "--approval", type=click.Choice(["pending", "approved", "rejected", "expired"]),
    help="Only those whose approval stands so.",
)  # fmt: skip
@click.option("--since", metavar="WHEN", help="Made then or later: a date, or 1h for an hour ago.")
@click.option("--until", metavar="WHEN", help="Made before then; the same.")
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True,
    help="At most so many.",
)  # fmt: skip
@json_option
@click.pass_context
def actions(context: click.Context, /, limit: int, as_json: bool, **wanted: Any) -> None:
    """The newest actions."""
    core: CoreContext = context.obj
    client = core.client()
    for word in ("since", "until"):
        wanted[word] = _ago(wanted[word], f"--{word}")
    for word in ("status", "phase"):
        wanted[word] = wanted[word].upper() if wanted[word] else None
    found, after = read_pages(client, "/v1/actions", "actions", limit, **wanted)
    readable = _actions_table(found) + and_more(after, limit)
    show_document(context, {"actions": found, "next": after}, readable)


def _ago(text: str | None, option: str) -> str | None:
    """A date as everywhere, or how long ago."""
    if text is None:
        return None
    try:
        return format_instant(now() - timedelta(seconds=parse_span_s(text)))
    except ValueError:
        return instant(text, option, now())


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
    client = core.client()
    with _recurring_hint(client, action_id, "show"):
        found = client.get(f"/v1/actions/{segment(action_id)}", node=node, owner=owner)
    if wants_json(context):
        show_document(context, found, "")
        return
    show_document(context, found, _readable(found, _told(client, found)))


@contextmanager
def _recurring_hint(client: ApiClient, name: str, command: str) -> Iterator[None]:
    """The core knows by this id a recurring action, which is none of its occurrences or parts."""
    try:
        yield
    except ApiRefused as error:
        if error.status != NO_SUCH and error.code != "ambiguous":
            raise
        try:
            client.get(f"/v1/recurring/{segment(name)}", limit=1)
        except ApiRefused:
            raise error from None
        hint = f"{name} is a recurring action: corectl recurring {command} {name}"
        code = EXITS.get(error.status, REFUSED)
        raise Failure(code, error.code, str(error), hint=hint) from None


def _told(client: ApiClient, one: dict[str, Any]) -> list[tuple[str, Any]]:
    """What happened and why: besides the action it takes its history, and at times its node."""
    if one.get("schedule") is not None:
        return []
    path = f"/v1/actions/{segment(one['id'])}/history"
    whose = {"node": one["node"], "owner": one.get("owner")}
    events = client.get(path, limit=PAGE, **whose)["events"]
    node = None
    if one["phase"] in NEEDS_NODE:
        node = client.get(f"/v1/agents/{segment(one['node'])}")
    return [
        ("why", explain_at_core(one, events, node, now())),
        ("asked by", asked_for_by(events)),
    ]


def _readable(one: dict[str, Any], told: list[tuple[str, Any]]) -> str:
    requested = one["requested"]
    output = one["output"] or {}
    return pairs(
        [
            ("id", one["id"]),
            ("node", one["node"]),
            ("kind", one["kind"]),
            ("phase", one["phase"]),
            *told,
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
            ("service", one.get("service")),
            ("risk", one.get("risk_level")),
            ("proposed by", one.get("proposed_by")),
            ("confidence", one.get("confidence")),
            ("approval", _approval(one)),
            ("rollback", _compact(one.get("rollback_reference"))),
            ("payload", _compact(one.get("payload"))),
            ("metadata", _compact(one.get("metadata"))),
            ("output", output.get("tail") if isinstance(output.get("tail"), str) else None),
        ]
    )  # fmt: skip


def _approval(one: dict[str, Any]) -> str | None:
    """How the approval stands, by whom and why."""
    given = one.get("approval")
    if given is None:
        return None
    if given["state"] == "pending" and one["phase"] != "PENDING_APPROVAL":
        return "was never decided"
    if given["state"] == "pending":
        return f"pending, until {given.get('expires_at')} (corectl approvals)"
    why = f": {given['reason']}" if given.get("reason") else ""
    return f"{given['state']} by {given.get('by')} at {given.get('at')}{why}"


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
    client = core.client()
    with _recurring_hint(client, action_id, "history"):
        found = _whole_history(client, action_id, node, owner)
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
    rule = event.get("recurring")
    if isinstance(rule, dict):
        definition = event.get("definition") or {}
        revision = definition.get("revision") or event.get("revision")
        return rule_told(rule, revision, definition.get("schedule"))
    return happened(event)


@click.command("cancel", cls=Command)
@click.argument("action_id", metavar="ID", required=False)
@click.option("--correlation-id", help="Everything open that belongs together, instead of one ID.")
@click.option("--reason", help="Why; kept in the history.")
@_node_option
@_owner_option
@json_option
@click.pass_context
def cancel(
    context: click.Context,
    action_id: str | None,
    correlation_id: str | None,
    reason: str | None,
    node: str | None,
    owner: str | None,
    as_json: bool,
) -> None:
    """Withdraw an action, or all of a correlation id; a running one is stopped."""
    core: CoreContext = context.obj
    if (action_id is None) == (correlation_id is None):
        raise click.UsageError("give an ID or --correlation-id, one of them")
    body = {"if_started": "stop"} | ({"reason": reason} if reason else {})
    if action_id is None:
        told = core.client().post("/v1/actions/cancel", body, correlation_id=correlation_id)
        show_document(context, told, _called_off(told))
        return
    client = core.client()
    with _recurring_hint(client, action_id, "delete"):
        found = client.post(
            f"/v1/actions/{segment(action_id)}/cancel", body, node=node, owner=owner
        )
    asked = "asked the node" if found["requested"] else "no node had taken it"
    show_document(context, found, f"{found['id']} {found['phase']} ({asked})")


def _called_off(told: dict[str, Any]) -> str:
    if not told["actions"]:
        return "nothing is open: all of them have ended"
    rows = [
        [one["action_id"], one["node"], one["phase"], one.get("message") or one["outcome"]]
        for one in told["actions"]
    ]
    more = "\n(there are more: say it again)" if told["more"] else ""
    return table(["ID", "NODE", "PHASE", "WHAT"], rows, width_of_output(), flow={"WHAT"}) + more
