"""`corectl enroll-token | agents | nudge`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from agent.cli.api_client import segment
from agent.cli.core_commands.context import CoreContext
from agent.cli.output import Command, json_option, now, show, wants_json
from agent.cli.status_lines import held
from agent.cli.tables import pairs, table, width_of_output
from agent.cli.times import relative
from agent.cli.values import span_s
from agent.wire import strict_json


@click.command("enroll-token", cls=Command)
@click.option("--node", help="The only node that may use it; needed to enroll a known one anew.")
@click.option("--ttl", default="1h", show_default=True, help="How long it can be used.")
@json_option
@click.pass_context
def enroll_token(context: click.Context, node: str | None, ttl: str, as_json: bool) -> None:
    """Make a single-use token for a new node; it is printed once and nowhere kept."""
    core: CoreContext = context.obj
    body = {"ttl_s": span_s(ttl, "--ttl")} | ({"node": node} if node else {})
    made = core.client().post("/v1/enrollment-tokens", body)
    show(context, made, made["token"])


@click.command("agents", cls=Command)
@click.argument("node", required=False)
@json_option
@click.pass_context
def agents(context: click.Context, node: str | None, as_json: bool) -> None:
    """All nodes, or everything about one."""
    core: CoreContext = context.obj
    client = core.client()
    if node is not None:
        found = client.get(f"/v1/agents/{segment(node)}")
        click.echo(strict_json.encode_text(found) if wants_json(context) else _readable(found))
        return
    listed: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = client.get("/v1/agents", after=after, limit=500)
        listed += page["agents"]
        after = page["next"]
        if after is None:
            break
    show(context, {"agents": listed}, _agents_table(listed))


def _agents_table(listed: list[dict[str, Any]]) -> str:
    if not listed:
        return "no nodes yet; bring one in with: corectl enroll-token"
    moment = now()
    rows = [
        [
            one["id"],
            relative(one["last_seen_at"], moment) + (" (silent)" if one["silent"] else ""),
            one["version"],
            one["counts"].get("STARTED", 0),
            one["counts"].get("NULL", 0),
            one["counts"].get("FINISHED", 0),
            one["counts"].get("FAILED", 0),
            _held_back(one),
        ]
        for one in listed
    ]
    headers = ["NODE", "SEEN", "VERSION", "RUNNING", "WAITING", "DONE", "FAILED", "HELD BACK BY"]
    return table(headers, rows, width_of_output(), flow={"HELD BACK BY"})


def _held_back(one: dict[str, Any]) -> str:
    """What a person should know before wondering why nothing starts there; `agents ID` says why."""
    told = ["fenced"] if one["fenced_count"] else []
    if (one.get("pause") or {}).get("paused"):
        told.append("paused")
    told += [f"brake on {held(brake)}" for brake in one.get("brakes") or []]
    return ", ".join(told)


def _pause(pause: dict[str, Any] | None, moment: datetime) -> str | None:
    if not pause or not pause.get("paused"):
        return None
    reason = pause.get("pause_reason") or "no reason given"
    by = f"; by {pause['paused_by']}" if pause.get("paused_by") else ""
    since = relative(pause.get("paused_at"), moment)
    return f"{reason}{by}, since {pause.get('paused_at')} ({since})"


def _brakes(brakes: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"{held(brake)} until {brake.get('expires_at') or 'it is released'}: "
        f"{brake.get('reason') or 'no reason given'} (by {brake.get('by') or 'nobody known'})"
        for brake in brakes
    )


def _readable(one: dict[str, Any]) -> str:
    moment = now()
    counts = ", ".join(f"{status} {count}" for status, count in sorted(one["counts"].items()))
    kinds = ", ".join(str(kind.get("kind", "?")) for kind in one["catalogue"])
    return pairs(
        [
            ("node", one["id"]),
            ("host", one["host"]),
            ("version", one["version"]),
            ("seen", relative(one["last_seen_at"], moment)),
            ("silent", "yes" if one["silent"] else "no"),
            ("enrolled", one["enrolled_at"]),
            ("instance", one["instance"]),
            ("fenced", f"{one['fenced_count']} times" if one["fenced_count"] else None),
            ("paused", _pause(one.get("pause"), moment)),
            ("brakes", _brakes(one.get("brakes") or [])),
            ("actions", counts or "none"),
            ("undelivered", one["undelivered"]),
            ("kinds", kinds or "not reported yet"),
        ]
    )


@click.command("nudge", cls=Command)
@click.argument("node")
@json_option
@click.pass_context
def nudge(context: click.Context, node: str, as_json: bool) -> None:
    """Ask a node to send everything it has."""
    core: CoreContext = context.obj
    asked = core.client().post(f"/v1/agents/{segment(node)}/nudge")
    show(context, asked, f"asked {node} to send its state")
