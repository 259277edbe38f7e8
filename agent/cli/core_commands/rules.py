"""`corectl rules list | reload | test`."""

from __future__ import annotations

from typing import Any

import click

from agent.cli.api_client import ApiRefused
from agent.cli.core_commands.context import CoreContext
from agent.cli.output import Command, Group, json_option, now, wants_json
from agent.cli.output import show as show_document
from agent.cli.tables import pairs, table, width_of_output
from agent.cli.times import relative
from agent.cli.values import json_value
from agent.wire import strict_json

DIGEST_CHARS = 12  # enough to compare by eye; --json has all of it


@click.group("rules", cls=Group)
def rules() -> None:
    """What is decided about a dispatch: delay, approve, suppress …"""


@rules.command("list", cls=Command)
@json_option
@click.pass_context
def list_rules(context: click.Context, as_json: bool) -> None:
    """The rules that hold, in the order in which they are asked."""
    core: CoreContext = context.obj
    found = core.client().get("/v1/rules")
    show_document(context, found, _readable(found))


@rules.command("reload", cls=Command)
@json_option
@click.pass_context
def reload(context: click.Context, as_json: bool) -> None:
    """Read the rule files anew; with any fault in them all rules stay as they are."""
    core: CoreContext = context.obj
    try:
        found = core.client().post("/v1/rules/reload")
    except ApiRefused as error:
        if error.code == "invalid" and not wants_json(context):
            click.echo("corectl: the rules that hold stay as they are:", err=True)
        raise
    digest = (found["digest"] or "")[:DIGEST_CHARS]
    show_document(context, found, f"{len(found['rules'])} rules are loaded ({digest})")


@rules.command("test", cls=Command)
@click.argument("action", metavar="ACTION.json")
@click.option("--node", help="On this node; else on the action's own, or on none.")
@json_option
@click.pass_context
def test(context: click.Context, action: str, node: str | None, as_json: bool) -> None:
    """Which rule decides about an action, and why. ACTION.json is as for dispatch; - reads stdin.

    Nothing is stored.
    """
    core: CoreContext = context.obj
    body = {"action": json_value(f"@{action}", "ACTION.json")} | ({"node": node} if node else {})
    found = core.client().post("/v1/rules/test", body)
    show_document(context, found, _tested(found))


def _readable(found: dict[str, Any]) -> str:
    listed = found["rules"]
    head = f"{len(listed)} rules, loaded {relative(found['loaded_at'], now())}"
    if found["directory"] is None:
        return "no rules: this core was started without --rules-dir"
    lines = [f"{head} from {found['directory']} ({(found['digest'] or '')[:DIGEST_CHARS]})"]
    if listed:
        rows = [
            [
                one["priority"],
                one["name"] + ("" if one["enabled"] else " (off)"),
                one["decides"],
                f"{one['file']}:{one['line']}",
                one["description"] or "",
            ]
            for one in listed
        ]
        headers = ["PRIORITY", "NAME", "DECIDES", "FILE", "DESCRIPTION"]
        lines += ["", table(headers, rows, width_of_output(), flow={"DESCRIPTION"})]
    refused = found["refused"]
    if refused is not None:
        when = relative(refused["at"], now())
        by = f"{when}, by {refused['by']}"
        lines += ["", f"the last reload ({by}) was refused, and these stayed as they were:"]
        lines += [f"  {fault['path']}: {fault['message']}" for fault in refused["faults"]]
    return "\n".join(lines)


def _tested(found: dict[str, Any]) -> str:
    node = found["node"]
    decided = pairs(
        [
            ("result", found["result"] or "none: the rule cannot be answered, dispatch refuses"),
            ("rule", found["rule"] or "none matches"),
            ("reason", found["reason"]),
            ("delay", f"{found['delay_seconds']} s" if found["delay_seconds"] else None),
            ("ttl", f"{found['ttl_seconds']:g} s" if found["ttl_seconds"] else None),
            ("risk", found["risk_level"]),
            ("confidence", found["min_confidence"]),
            ("node", (node.get("id") or strict_json.encode_text(node)) if node else "none given"),
        ]
    )
    if not found["trail"]:
        return f"{decided}\n\nno rule was asked: there is none that is enabled"
    rows = [
        [one["rule"], "yes" if one["matched"] else "no", f"{one['file']}:{one['line']}", one["why"]]
        for one in found["trail"]
    ]
    headers = ["ASKED", "MATCHES", "FILE", "WHY"]
    return f"{decided}\n\n{table(headers, rows, width_of_output(), flow={'WHY'})}"
