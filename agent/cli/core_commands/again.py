"""`corectl retry | reschedule`: an ended action again, and another time for one that waits."""

from __future__ import annotations

from typing import Any

import click

from agent.cli.api_client import segment
from agent.cli.core_commands.context import CoreContext
from agent.cli.core_commands.dispatch import show_end, wait_limit_s
from agent.cli.outcomes import outcome_told
from agent.cli.output import Command, json_option, now, show
from agent.cli.times import relative
from agent.cli.values import instant, json_value, start

_node_option = click.option("--node", help="Which node, where several have this id.")
_owner_option = click.option("--owner", type=click.Choice(["core", "node"]), help="Whose.")
_approve_option = click.option(
    "--approve", is_flag=True, help="Approve it in the same step (role approver)."
)


@click.command("retry", cls=Command)
@click.argument("action_id", metavar="ID")
@click.option("--payload", help="Another one: JSON, @file, or @- for standard input.")
@click.option("--at", help="Not before this date, as 2026-01-15T02:00:00Z or +10m.")
@click.option("--in", "delay", help="Not before this time from now, as 10s, 5m, 1h30m.")
@click.option("--until", help="The window's end: not started by then, it will not be.")
@click.option("--dedup-key", help="Of several with this key only the first one is dispatched.")
@_approve_option
@click.option("--dry-run", is_flag=True, help="Only check: nothing is stored or sent.")
@click.option("--wait", is_flag=True, help="Until it has ended; exit code 1 unless it is done.")
@click.option("--wait-for", metavar="SPAN", help="The same, but at most so long, as 30s.")
@_node_option
@_owner_option
@json_option
@click.pass_context
def retry(
    context: click.Context, /, action_id: str, wait: bool, wait_for: str | None, **given: Any
) -> None:
    """The same again, as a new action; of one that has ended."""
    core: CoreContext = context.obj
    limit_s = wait_limit_s(wait_for, wait=wait)
    body = {
        "payload": json_value(given["payload"], "--payload"),
        "from_date": start(given["at"], given["delay"], now()),
        "to_date": instant(given["until"], "--until", now()),
        "dedup_key": given["dedup_key"],
        "approve": given["approve"] or None,
    }
    client = core.client()
    outcome = client.post(
        f"/v1/actions/{segment(action_id)}/retry",
        {name: value for name, value in body.items() if value is not None},
        node=given["node"],
        owner=given["owner"],
        dry_run=True if given["dry_run"] else None,
    )
    if limit_s is None or given["dry_run"]:
        show(context, outcome, outcome_told(outcome, None, now()))
    else:
        show_end(context, client, outcome, limit_s)


@click.command("reschedule", cls=Command)
@click.argument("action_id", metavar="ID")
@click.option("--at", help="Not before this date; one that has passed means now.")
@click.option("--in", "delay", help="Not before this time from now, as 10s, 5m, 1h30m.")
@click.option("--until", help="The window's end; as it was unless given.")
@click.option("--reason", help="Why; kept in the history.")
@_approve_option
@_node_option
@_owner_option
@json_option
@click.pass_context
def reschedule(context: click.Context, /, action_id: str, as_json: bool, **given: Any) -> None:
    """Another time for an action that has not started."""
    core: CoreContext = context.obj
    from_date = start(given["at"], given["delay"], now())
    if from_date is None:
        raise click.UsageError("when? give --at or --in")
    body = {
        "from_date": from_date,
        "to_date": instant(given["until"], "--until", now()),
        "reason": given["reason"],
        "approve": given["approve"] or None,
    }
    found = core.client().post(
        f"/v1/actions/{segment(action_id)}/reschedule",
        {name: value for name, value in body.items() if value is not None},
        node=given["node"],
        owner=given["owner"],
    )
    show(context, found, _told(found, from_date))


def _told(found: dict[str, Any], asked: str) -> str:
    when = f"{asked} ({relative(asked, now())})"
    if found["phase"] == "PENDING_APPROVAL":
        return (
            f"{found['id']} is moved to {when}, and still waits for approval "
            f"(corectl approve {found['id']})"
        )
    if found["requested"] is None:
        return (
            f"{found['id']}: {when} waits for approval (corectl approve {found['id']}); until then "
            "it stays as it was"
        )
    return f"{found['id']} {found['phase']} for {when}; asked the node"
