"""`corectl webhooks …`: where events are sent, and what could not be delivered."""

from __future__ import annotations

from typing import Any

import click

from agent.cli.api_client import segment
from agent.cli.core_commands.context import CoreContext
from agent.cli.core_commands.watch import as_query, filter_options
from agent.cli.event_sentences import told
from agent.cli.exits import ACTION_FAILED
from agent.cli.output import Command, Group, json_option, now
from agent.cli.output import show as show_document
from agent.cli.paging import PAGE
from agent.cli.tables import pairs, table, width_of_output
from agent.cli.times import relative
from agent.wire import strict_json

_hook = click.argument("hook", metavar="ID")
_row = click.argument("row", type=int)


@click.group("webhooks", cls=Group)
def webhooks() -> None:
    """Where events are sent as they happen."""


@webhooks.command("list", cls=Command)
@json_option
@click.pass_context
def list_hooks(context: click.Context, as_json: bool) -> None:
    """All of them."""
    core: CoreContext = context.obj
    found = core.client().get("/v1/webhooks")
    rows = [
        [one["id"], one["url"], _state(one), one["behind"], one["failures"]]
        for one in found["webhooks"]
    ]
    headers = ["ID", "URL", "STATE", "BEHIND", "FAILURES"]
    readable = table(headers, rows, width_of_output(), flow={"URL"}) if rows else "no webhooks"
    show_document(context, found, readable)


@webhooks.command("create", cls=Command)
@click.argument("url")
@filter_options
@click.option("--after", type=click.IntRange(0), help="Begin behind this event, not now.")
@json_option
@click.pass_context
def create(
    context: click.Context, /, url: str, after: int | None, as_json: bool, **wanted: Any
) -> None:
    """Send events to URL; everything, or what passes the filter. The secret is shown this once."""
    core: CoreContext = context.obj
    chosen = {name: value for name, value in as_query(wanted).items() if value is not None}
    body: dict[str, Any] = {"url": url, "filter": chosen}
    if after is not None:
        body["after"] = after
    made = core.client().post("/v1/webhooks", body)
    readable = pairs([("id", made["id"]), ("url", made["url"]), ("secret", made["secret"])])
    show_document(context, made, readable)


@webhooks.command("show", cls=Command)
@_hook
@json_option
@click.pass_context
def show(context: click.Context, hook: str, as_json: bool) -> None:
    """One of them."""
    core: CoreContext = context.obj
    found = core.client().get(f"/v1/webhooks/{segment(hook)}")
    readable = pairs(
        [
            ("id", found["id"]),
            ("url", found["url"]),
            ("filter", strict_json.encode_text(found["filter"]) if found["filter"] else None),
            ("state", _state(found)),
            ("last error", found["last_error"]),
            ("tried again", relative(found["next_at"], now()) if found["next_at"] else None),
            ("behind", f"{found['behind']} events"),
            ("dead letters", found["failures"]),
            ("created", f"{found['created_at']} by {found['created_by']}"),
        ]
    )
    show_document(context, found, readable)


def _state(one: dict[str, Any]) -> str:
    if not one["enabled"]:
        return "disabled"
    if one["attempts"]:
        return f"failing ({one['attempts']})"
    return "gave up on the last" if one["last_error"] else "well"


def _post(context: click.Context, hook: str, verb: str) -> dict[str, Any]:
    core: CoreContext = context.obj
    found: dict[str, Any] = core.client().post(f"/v1/webhooks/{segment(hook)}/{verb}")
    return found


@webhooks.command("enable", cls=Command)
@_hook
@json_option
@click.pass_context
def enable(context: click.Context, hook: str, as_json: bool) -> None:
    """Deliver on from where it stopped."""
    found = _post(context, hook, "enable")
    show_document(context, found, f"{found['id']} is enabled, {found['behind']} events behind")


@webhooks.command("disable", cls=Command)
@_hook
@json_option
@click.pass_context
def disable(context: click.Context, hook: str, as_json: bool) -> None:
    """Deliver nothing until it is enabled again."""
    found = _post(context, hook, "disable")
    show_document(context, found, f"{found['id']} is disabled")


@webhooks.command("test", cls=Command)
@_hook
@json_option
@click.pass_context
def test(context: click.Context, hook: str, as_json: bool) -> None:
    """Send a test message now."""
    found = _post(context, hook, "test")
    _tell(context, found)


@webhooks.command("delete", cls=Command)
@_hook
@json_option
@click.pass_context
def delete(context: click.Context, hook: str, as_json: bool) -> None:
    """Take it away, with its dead letters."""
    core: CoreContext = context.obj
    found = core.client().call("DELETE", f"/v1/webhooks/{segment(hook)}")
    show_document(context, found, f"{found['id']} is deleted")


@webhooks.command("failures", cls=Command)
@_hook
@json_option
@click.pass_context
def failures(context: click.Context, hook: str, as_json: bool) -> None:
    """Its dead letters: what was given up, and why."""
    core: CoreContext = context.obj
    client, path = core.client(), f"/v1/webhooks/{segment(hook)}/failures"
    found = client.get(path, limit=PAGE)
    while found["next"] is not None:
        page = client.get(path, limit=PAGE, after=found["next"])
        found = {"failures": found["failures"] + page["failures"], "next": page["next"]}
    rows = [
        [one["row"], one["at"], told(one["message"]["data"]), one["attempts"], one["error"]]
        for one in found["failures"]
    ]
    headers = ["ROW", "GIVEN UP", "EVENT", "ATTEMPTS", "ERROR"]
    readable = table(headers, rows, width_of_output(), flow={"EVENT", "ERROR"})
    show_document(context, found, readable if rows else "no dead letters")


@webhooks.command("retry", cls=Command)
@_hook
@_row
@json_option
@click.pass_context
def retry(context: click.Context, hook: str, row: int, as_json: bool) -> None:
    """Send a dead letter once more."""
    found = _post(context, hook, f"failures/{row}/retry")
    _tell(context, found)


@webhooks.command("drop", cls=Command)
@_hook
@_row
@json_option
@click.pass_context
def drop(context: click.Context, hook: str, row: int, as_json: bool) -> None:
    """Forget a dead letter."""
    core: CoreContext = context.obj
    found = core.client().call("DELETE", f"/v1/webhooks/{segment(hook)}/failures/{row}")
    show_document(context, found, f"dead letter {row} is forgotten")


def _tell(context: click.Context, found: dict[str, Any]) -> None:
    """Whether it arrived; a script hears of it by the exit code."""
    told = "delivered" if found["delivered"] else f"not delivered: {found['error']}"
    show_document(context, found, told)
    if not found["delivered"]:
        context.exit(ACTION_FAILED)
