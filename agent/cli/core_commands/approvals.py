"""`corectl approvals | approve | reject`: what waits for a person, and the answer."""

from __future__ import annotations

from typing import Any

import click

from agent.cli.api_client import ApiClient, ApiRefused, segment
from agent.cli.core_commands.context import CoreContext
from agent.cli.exits import REFUSED
from agent.cli.output import Command, Group, json_option, now
from agent.cli.output import show as show_document
from agent.cli.paging import and_more, read_pages
from agent.cli.tables import pairs, table, width_of_output
from agent.cli.times import relative
from agent.cli.values import span_s
from agent.wire import strict_json

STATES = ("pending", "approved", "rejected", "expired", "withdrawn", "superseded")
NOT_FOUND = 404
MANY_MAX = 10_000  # as many as one dispatch can reach
_TOLD = {"approve": "approved", "reject": "rejected"}

_reason_option = click.option("--reason", help="Why; kept with the decision.")
_digest_option = click.option(
    "--digest", help="Only if this is still what is asked, as `approvals show` tells it."
)
_node_option = click.option("--node", help="Which node, where several have this id.")
_many_option = click.option(
    "--correlation-id", help="Instead of ID: everything that waits with this one."
)


@click.group("approvals", cls=Group, invoke_without_command=True)
@click.option(
    "--state", type=click.Choice([*STATES, "all"]), default="pending", show_default=True,
    help="Only in this state.",
)  # fmt: skip
@click.option("--node", help="Only for this node.")
@click.option("--action", "action_id", help="Only about this action.")
@click.option("--correlation-id", help="Only about actions with this one.")
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True,
    help="At most so many.",
)  # fmt: skip
@json_option
@click.pass_context
def approvals(
    context: click.Context, /, state: str, limit: int, as_json: bool, **wanted: Any
) -> None:
    """What waits for a person: what, where, and why."""
    if context.invoked_subcommand is not None:
        return
    core: CoreContext = context.obj
    wanted["state"] = None if state == "all" else state
    found, after = read_pages(core.client(), "/v1/approvals", "approvals", limit, **wanted)
    readable = _table(found) + and_more(after, limit)
    show_document(context, {"approvals": found, "next": after}, readable)


def _table(listed: list[dict[str, Any]]) -> str:
    if not listed:
        return "nothing waits for approval"
    moment = now()
    rows = [
        [
            one["action_id"],
            one["node"] or one["definition"].get("selector"),
            one["kind"] + (" (edit)" if one["is_edit"] else ""),
            one["risk"],
            one["state"],
            relative(one["requested_at"], moment),
            relative(one["expires_at"], moment) if one["state"] == "pending" else "-",
            one["requested_by"],
            one["why"],
        ]
        for one in listed
    ]
    headers = ["ACTION", "NODE", "KIND", "RISK", "STATE", "SINCE", "EXPIRES", "BY", "WHY"]
    return table(headers, rows, width_of_output(), flow={"WHY"})


@approvals.command("show", cls=Command)
@click.argument("name", metavar="ID")
@json_option
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> None:
    """All that is asked for. ID is the action's, or the approval's own."""
    core: CoreContext = context.obj
    client = core.client()
    found = client.get(f"/v1/approvals/{segment(_approval_id(client, name))}")
    show_document(context, found, _whole(found))


@approvals.command("link", cls=Command)
@click.argument("name", metavar="ID")
@click.option("--ttl", help="How long the links work, as 1h; a day unless said otherwise.")
@click.option("--for", "for_name", metavar="NAME", help="Whom they are for: recorded as link:NAME.")
@json_option
@click.pass_context
def link(
    context: click.Context, name: str, ttl: str | None, for_name: str | None, as_json: bool
) -> None:
    """Links that approve and reject, for chat or mail. Whoever has one decides in your name."""
    core: CoreContext = context.obj
    client = core.client()
    body = {"ttl_s": span_s(ttl, "--ttl"), "for": for_name}
    given = {key: value for key, value in body.items() if value is not None}
    path = f"/v1/approvals/{segment(_approval_id(client, name))}/links"
    made = client.post(path, given)
    readable = pairs(
        [
            ("approve", made["approve"]),
            ("reject", made["reject"]),
            ("acts as", made["acts_as"]),
            ("until", f"{made['expires_at']} ({relative(made['expires_at'], now())})"),
        ]
    )
    show_document(context, made, readable)


@click.command("approve", cls=Command)
@click.argument("name", metavar="ID", required=False)
@_many_option
@_reason_option
@_digest_option
@_node_option
@json_option
@click.pass_context
def approve(context: click.Context, /, name: str | None, as_json: bool, **given: Any) -> None:
    """Let an action go to its node. ID is the action's, or the approval's own."""
    _answer(context, "approve", name, given)


@click.command("reject", cls=Command)
@click.argument("name", metavar="ID", required=False)
@_many_option
@_reason_option
@_digest_option
@_node_option
@json_option
@click.pass_context
def reject(context: click.Context, /, name: str | None, as_json: bool, **given: Any) -> None:
    """Say no: the action ends where it is. ID is the action's, or the approval's own."""
    _answer(context, "reject", name, given)


def _answer(context: click.Context, verb: str, name: str | None, given: dict[str, Any]) -> None:
    core: CoreContext = context.obj
    node, correlation_id = given.pop("node"), given.pop("correlation_id")
    body = {key: value for key, value in given.items() if value is not None}
    if (name is None) == (correlation_id is None):
        raise click.UsageError("give an ID, or --correlation-id for everything that waits with it")
    if name is None:
        _answer_many(context, verb, body, {"correlation_id": correlation_id, "node": node})
    else:
        _answer_one(context, core.client(), verb, name, body, node)


def _answer_many(
    context: click.Context, verb: str, body: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """Each by itself, so that one that somebody else decided meanwhile stops nothing."""
    core: CoreContext = context.obj
    client = core.client()
    waiting, _ = read_pages(
        client, "/v1/approvals", "approvals", MANY_MAX, state="pending", **wanted
    )
    decided, refused = [], []
    for one in waiting:
        try:
            decided.append(client.post(f"/v1/approvals/{segment(one['id'])}/{verb}", body))
        except ApiRefused as error:
            refused.append({"id": one["id"], "error": error.code, "message": str(error)})
    lines = [f"{one['action_id']} {_TOLD[verb]} {_where(one)}" for one in decided]
    lines += [f"{one['id']} refused: {one['message']}" for one in refused]
    readable = "\n".join(lines) or "nothing waits with this correlation id"
    show_document(context, {"approvals": decided, "refused": refused}, readable)
    if refused:
        context.exit(REFUSED)


def _answer_one(
    context: click.Context, client: ApiClient, verb: str, name: str, body: dict[str, Any],
    node: str | None,
) -> None:  # fmt: skip
    waiting = client.get("/v1/approvals", action_id=name, node=node, state="pending", limit=2)
    if len(waiting["approvals"]) == 1:
        name = waiting["approvals"][0]["id"]
    elif not _is_approval(client, name):
        # The node's own, ambiguous, decided already, or nothing of that name: the core says which.
        found = client.post(f"/v1/actions/{segment(name)}/{verb}", body, node=node)
        readable = f"{found['id']} {found['phase']} (asked the node {found['node']})"
        show_document(context, found, readable)
        return
    found = client.post(f"/v1/approvals/{segment(name)}/{verb}", body)
    show_document(context, found, f"{found['action_id']} {_TOLD[verb]} {_where(found)}")


def _is_approval(client: ApiClient, name: str) -> bool:
    try:
        client.get(f"/v1/approvals/{segment(name)}")
    except ApiRefused as error:
        if error.status != NOT_FOUND:
            raise
        return False
    return True


def _where(one: dict[str, Any]) -> str:
    """Its node, or, of a recurring action for several, their selector."""
    return f"on {one['node'] or one['definition'].get('selector') or '?'}"


def _approval_id(client: ApiClient, name: str) -> str:
    """The newest approval about an action of that id; else the name is the approval's own."""
    listed = client.get("/v1/approvals", action_id=name, limit=1)["approvals"]
    return str(listed[0]["id"]) if listed else name


def _whole(one: dict[str, Any]) -> str:
    asked, moment = one["definition"], now()
    ends = one["expires_at"]
    return pairs(
        [
            ("approval", one["id"]),
            ("state", one["state"]),
            ("action", one["action_id"]),
            ("node", one["node"] or one["definition"].get("selector")),
            ("kind", one["kind"]),
            ("service", one["service"]),
            ("risk", one["risk"] or "not classified"),
            ("waits as", one["why"]),
            ("asked by", f"{one['requested_by']}, {relative(one['requested_at'], moment)}"),
            ("proposed by", one["proposed_by"]),
            ("confidence", one["confidence"]),
            ("correlation", one["correlation_id"]),
            ("expires", f"{ends} ({relative(ends, moment)})" if ends else None),
            ("decided", f"by {one['decided_by']} at {one['decided_at']}"
             if one["decided_at"] else None),
            ("reason", one["reason"]),
            ("four eyes", f"not by {one['requested_by']}" if one["four_eyes"] else None),
            ("from", asked.get("from_date")),
            ("until", asked.get("to_date")),
            ("schedule", _compact(asked.get("schedule"))),
            ("payload", _compact(asked.get("payload"))),
            ("metadata", _compact(asked.get("metadata"))),
            ("changes", _changes(one.get("changes"))),
            ("digest", one["digest"]),
        ]
    )  # fmt: skip


def _changes(changed: dict[str, dict[str, Any]] | None) -> str | None:
    """A line for each member: as it is, and as it would be."""
    return "\n".join(
        f"{name}: {_plain(change['from'])} → {_plain(change['to'])}"
        for name, change in (changed or {}).items()
    )


def _plain(value: Any) -> str:
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else strict_json.encode_text(value)


def _compact(value: Any) -> str | None:
    return strict_json.encode_text(value) if value else None
