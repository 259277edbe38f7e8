"""`corectl recurring`: what the nodes do again and again for the core; created, changed, looked at.

Tables and words are in `agent.cli.fleet_rules`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from agent.cli.api_client import ApiClient, segment
from agent.cli.core_commands.context import CoreContext
from agent.cli.defining import changed_schedule, compose, definition_options
from agent.cli.fleet_rules import (
    forecast_told,
    made_told,
    occurrences_table,
    placed_told,
    rule_told,
    rules_table,
)
from agent.cli.output import Command, Group, json_option, now
from agent.cli.output import show as show_document
from agent.cli.paging import PAGE, and_more, read_pages
from agent.cli.values import instant

RULES = "/v1/recurring"
FIRES_MAX = 1_000
_NOT_SENT_BACK = frozenset(
    {"state", "paused", "paused_at", "backfills", "created_by", "updated_at", "deleted_at"}
    | {"nodes", "next_at", "question", "on", "next", "requester", "approval"}
)
"""Members of a rule's view that are the core's; the rest is its definition."""

_id = click.argument("rule_id", metavar="ID")
_node = click.option("--node", help="Only on this node.")


@click.group("recurring", cls=Group)
def recurring() -> None:
    """What nodes do again and again: create, list, show, update, pause, backfill, forecast …"""


def _client(context: click.Context) -> ApiClient:
    core: CoreContext = context.obj
    return core.client()


def _path(rule_id: str, verb: str = "") -> str:
    return f"{RULES}/{segment(rule_id)}{verb}"


def _target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where, and who answers for it."""
    for option in reversed(
        (
            click.option("--node", help="The node that has it."),
            click.option("--selector", help="Every node that matches, now and later."),
            click.option("--service", help="Which service it is about; for lists."),
            click.option(
                "--risk", "risk_level", type=click.Choice(["safe", "guarded", "dangerous"]),
                help="At least this; guarded and dangerous wait for an approval.",
            ),
            click.option("--approve", is_flag=True, help="Approve it as well (role approver)."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def _target(given: dict[str, Any]) -> dict[str, Any]:
    """Takes the options of `_target_options` out of what was given."""
    names = ("node", "selector", "service", "risk_level", "approve")
    found = {name: given.pop(name) for name in names}
    return {name: value for name, value in found.items() if value}


@recurring.command("list", cls=Command)
@_node
@click.option("--deleted", is_flag=True, help="Those that were deleted as well.")
@json_option
@click.pass_context
def list_rules(context: click.Context, node: str | None, deleted: bool, as_json: bool) -> None:
    """All of them, with their target and their next instant."""
    client = _client(context)
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = client.get(
            RULES, node=node, deleted=True if deleted else None, after=after, limit=PAGE
        )
        found += page["recurring"]
        after = page["next"]
        if after is None:
            break
    show_document(context, {"recurring": found}, rules_table(found, now()))


@recurring.command("show", cls=Command)
@_id
@click.option("--limit", type=click.IntRange(1, PAGE), default=100, show_default=True,
              help="So many of its nodes.")  # fmt: skip
@json_option
@click.pass_context
def show(context: click.Context, rule_id: str, limit: int, as_json: bool) -> None:
    """One of them: its definition, and how it stands on its nodes."""
    found = _client(context).get(_path(rule_id), limit=limit)
    show_document(context, found, rule_told(found, now()))


@recurring.command("create", cls=Command)
@click.argument("kind")
@definition_options
@_target_options
@click.option("--id", "rule_id", help="Its name, and the beginning of its occurrences' ids.")
@click.option("--check", is_flag=True, help="Only check: nothing is stored or sent.")
@json_option
@click.pass_context
def create(
    context: click.Context, /, kind: str, rule_id: str | None, check: bool, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Run KIND again and again, on a node or on all that match (--node, --selector, --label)."""
    document = {"kind": kind, **({"id": rule_id} if rule_id else {}), **_target(given)}
    document |= compose(given, now())
    if "schedule" not in document:
        raise click.UsageError(
            "no schedule: give --schedule, --cron, --every, --at, --date or --after"
        )
    client = _client(context)
    if check:
        told = client.post("/v1/dispatch", document, dry_run=True)
    else:
        told = client.post(RULES, document)
    show_document(context, told, made_told(told))


@recurring.command("update", cls=Command)
@_id
@definition_options
@_target_options
@json_option
@click.pass_context
def update(context: click.Context, /, rule_id: str, as_json: bool, **given: Any) -> None:
    """Change what is given, keep the rest. Only later instants are affected."""
    changes = {**_target(given), **compose(given, now())}
    if not changes:
        raise click.UsageError("nothing to change: give the options that are to be different")
    client = _client(context)
    before = client.get(_path(rule_id), limit=1)
    document = {key: value for key, value in before.items() if key not in _NOT_SENT_BACK}
    if "node" in changes or "selector" in changes:
        document |= {"node": None, "selector": None}
    schedule = changed_schedule(document.get("schedule"), changes.pop("schedule", None))
    document |= {**changes, "schedule": schedule}
    told = client.call("PUT", _path(rule_id), body=document)
    show_document(context, told, made_told(told))


@recurring.command("delete", cls=Command)
@click.argument("rule_ids", metavar="ID...", nargs=-1, required=True)
@json_option
@click.pass_context
def delete(context: click.Context, rule_ids: tuple[str, ...], as_json: bool) -> None:
    """No occurrence any more: what waits is withdrawn, what runs goes on. Its history stays."""
    client = _client(context)
    gone = [client.call("DELETE", _path(rule_id)) for rule_id in rule_ids]
    told = "\n".join(f"{one['id']} is deleted" for one in gone)
    show_document(context, gone[0] if len(gone) == 1 else {"recurring": gone}, told)


@recurring.command("pause", cls=Command)
@_id
@click.option("--reason", help="Why; shown on every node until it is resumed.")
@json_option
@click.pass_context
def pause(context: click.Context, rule_id: str, reason: str | None, as_json: bool) -> None:
    """No occurrence of it, on any node, until it is resumed; one that runs goes on."""
    body = {"reason": reason} if reason else {}
    told = _client(context).post(_path(rule_id, "/pause"), body)
    readable = f"{rule_id} is paused; go on with: corectl recurring resume {rule_id}"
    show_document(context, told, readable)


@recurring.command("resume", cls=Command)
@_id
@json_option
@click.pass_context
def resume(context: click.Context, rule_id: str, as_json: bool) -> None:
    """Go on; what it missed is treated as after downtime."""
    told = _client(context).post(_path(rule_id, "/resume"), {})
    show_document(context, told, f"{rule_id} goes on")


@recurring.command("run", cls=Command)
@_id
@_node
@json_option
@click.pass_context
def run_now(context: click.Context, rule_id: str, node: str | None, as_json: bool) -> None:
    """One occurrence now on each of its nodes, besides the planned ones."""
    told = _client(context).post(_path(rule_id, "/run"), {"node": node} if node else {})
    show_document(context, told, placed_told(told))


@recurring.command("backfill", cls=Command)
@_id
@click.argument("begin", metavar="FROM")
@click.argument("end", metavar="TO")
@_node
@json_option
@click.pass_context
def backfill(
    context: click.Context, rule_id: str, begin: str, end: str, node: str | None, as_json: bool
) -> None:
    """Run the occurrences from FROM up to (not including) TO again, on each of its nodes."""
    moment = now()
    body = {"from": instant(begin, "FROM", moment), "to": instant(end, "TO", moment)}
    told = _client(context).post(
        _path(rule_id, "/backfill"), body | ({"node": node} if node else {})
    )
    show_document(context, told, placed_told(told))


@recurring.command("history", cls=Command)
@_id
@_node
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True,
    help="At most so many.",
)  # fmt: skip
@json_option
@click.pass_context
def history(
    context: click.Context, rule_id: str, node: str | None, limit: int, as_json: bool
) -> None:
    """Its occurrences, newest first; also of one that was deleted."""
    client = _client(context)
    path = _path(rule_id, "/history")
    found, after = read_pages(client, path, "actions", limit, node=node)
    readable = occurrences_table(found, now()) + and_more(after, limit)
    show_document(context, {"actions": found, "next": after}, readable)


@recurring.command("forecast", cls=Command)
@click.argument("rule_id", metavar="[ID]", required=False)
@click.option("--until", metavar="WHEN", help="So far; default: a day. +7d counts from now.")
@_node
@click.option("--selector", help="Only on nodes that match.")
@click.option(
    "--limit", type=click.IntRange(1, FIRES_MAX), default=50, show_default=True,
    help="At most so many starts.",
)  # fmt: skip
@json_option
@click.pass_context
def forecast(
    context: click.Context, /, rule_id: str | None, until: str | None, as_json: bool, **given: Any
) -> None:
    """What starts when: of one recurring action, or of all of them; and when most of it at once."""
    moment = now()
    path = "/v1/forecast" if rule_id is None else _path(rule_id, "/forecast")
    told = _client(context).get(path, until=instant(until, "--until", moment), **given)
    show_document(context, told, forecast_told(told, moment))
