"""`corectl enroll-token | agents`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from agent.cli.api_client import ApiClient, segment
from agent.cli.core_commands.context import CoreContext
from agent.cli.core_commands.fleet import labels_told
from agent.cli.output import Command, json_option, now, show, wants_json
from agent.cli.status_lines import held
from agent.cli.tables import pairs, table, width_of_output
from agent.cli.times import age_s, relative, span
from agent.cli.values import span_s
from agent.wire import strict_json

SKEW_TOLD_MS = 5_000
FENCED_TOLD_S = 86_400.0  # the list is about now; `agents ID` tells of older ones, too
EMPTY = "no nodes yet; bring one in with: corectl enroll-token"


@click.command("enroll-token", cls=Command)
@click.option("--node", help="The only node that may use it; needed to enroll a known one anew.")
@click.option("--ttl", default="1h", show_default=True, help="How long it can be used.")
@click.option("--list", "listing", is_flag=True, help="Which there are; never themselves.")
@click.option("--revoke", metavar="ID", help="Take one back, by its id in the list.")
@json_option
@click.pass_context
def enroll_token(
    context: click.Context,
    node: str | None,
    ttl: str,
    listing: bool,
    revoke: str | None,
    as_json: bool,
) -> None:
    """Make a single-use token for a new node; it is printed once and nowhere kept."""
    core: CoreContext = context.obj
    if listing:
        found = _every(core.client(), "/v1/enrollment-tokens", "tokens")
        show(context, {"tokens": found}, _tokens_table(found))
        return
    if revoke is not None:
        gone = core.client().call("DELETE", f"/v1/enrollment-tokens/{segment(revoke)}")
        show(context, gone, f"{gone['id']} brings nobody in any more")
        return
    body = {"ttl_s": span_s(ttl, "--ttl")} | ({"node": node} if node else {})
    made = core.client().post("/v1/enrollment-tokens", body)
    show(context, made, made["token"])


def _tokens_table(listed: list[dict[str, Any]]) -> str:
    if not listed:
        return "no enrolment tokens"
    moment = now()
    rows = [
        [one["id"], one["node"] or "any new one", one["state"], relative(one["expires_at"], moment),
         one["used_for"] or ""]
        for one in sorted(listed, key=lambda one: one["created_at"])
    ]  # fmt: skip
    return table(["TOKEN", "FOR", "STATE", "EXPIRES", "USED FOR"], rows, width_of_output())


def _every(client: ApiClient, path: str, name: str, **query: Any) -> list[dict[str, Any]]:
    """All pages of a list."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = client.get(path, after=after, limit=500, **query)
        found += page[name]
        after = page["next"]
        if after is None:
            return found


@click.command("agents", cls=Command)
@click.argument("node", required=False)
@click.option("--selector", help="Those that it means, as env=prod,role in (db,web)")
@click.option("--decommissioned", is_flag=True, help="Those that were taken out of service.")
@json_option
@click.pass_context
def agents(
    context: click.Context,
    node: str | None,
    selector: str | None,
    decommissioned: bool,
    as_json: bool,
) -> None:
    """All nodes, or everything about one."""
    core: CoreContext = context.obj
    client = core.client()
    if node is not None:
        found = client.get(f"/v1/agents/{segment(node)}")
        click.echo(strict_json.encode_text(found) if wants_json(context) else _readable(found))
        return
    gone = "true" if decommissioned else None
    listed = _every(client, "/v1/agents", "agents", selector=selector, decommissioned=gone)
    empty = EMPTY if selector is None and not decommissioned else "no node matches"
    show(context, {"agents": listed}, _agents_table(listed) if listed else empty)


def _agents_table(listed: list[dict[str, Any]]) -> str:
    moment = now()
    rows = [
        [
            one["id"],
            labels_told(one["labels"]) if len(one["labels"]) > 1 else "",
            relative(one["last_seen_at"], moment) + (" (silent)" if one["silent"] else ""),
            one["version"],
            one["counts"].get("STARTED", 0),
            one["counts"].get("NULL", 0),
            one["counts"].get("FINISHED", 0),
            one["counts"].get("FAILED", 0),
            _held_back(one, moment),
        ]
        for one in listed
    ]
    headers = [
        "NODE",
        "LABELS",
        "SEEN",
        "VERSION",
        "RUNNING",
        "WAITING",
        "DONE",
        "FAILED",
        "HELD BACK BY",
    ]
    return table(headers, rows, width_of_output(), flow={"LABELS", "HELD BACK BY"})


def _held_back(one: dict[str, Any], moment: datetime) -> str:
    """What a person should know before wondering why nothing starts there; `agents ID` says why."""
    told = ["out of service"] if one["decommissioned_at"] else []
    if one["fenced_count"] and age_s(one["fenced_at"], moment) < FENCED_TOLD_S:
        told.append(f"fenced {relative(one['fenced_at'], moment)}")
    told += [skew] if (skew := _skew(one["skew_ms"])) and not one["silent"] else []
    told += [_frozen(one_freeze) for one_freeze in one["freezes"]]
    if (one.get("pause") or {}).get("paused"):
        told.append("paused")
    told += [f"brake on {held(brake)}" for brake in _own_brakes(one)]
    return ", ".join(told)


def _own_brakes(one: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the node's own people; the core's freezes are told as such."""
    known = {freeze["id"] for freeze in one["freezes"]}
    return [brake for brake in one.get("brakes") or [] if brake.get("freeze") not in known]


def _frozen(freeze: dict[str, Any]) -> str:
    what = f" for {freeze['kind']}" if freeze["kind"] else ""
    state = "" if freeze["state"] == "frozen" else f" ({freeze['state'].replace('_', ' ')})"
    return f"frozen{what}{state}"


def _skew(skew_ms: int | None) -> str | None:
    """Worth telling only where it can matter: the way and a busy node take a while, too."""
    if skew_ms is None or abs(skew_ms) < SKEW_TOLD_MS:
        return None
    return f"clock {'ahead' if skew_ms > 0 else 'behind'} by {span(abs(skew_ms) / 1000)}"


def _freezes(freezes: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"{freeze['id']} {_frozen(freeze)} until {freeze['expires_at'] or 'it is thawed'}: "
        f"{freeze['reason']} (by {freeze['by']})"
        for freeze in freezes
    )


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
            ("silent", _silent(one)),
            ("out of service", one["decommissioned_at"]),
            ("clock", _skew(one["skew_ms"])),
            ("labels", labels_told(one["labels"])),
            ("set here", labels_told(one["labels_set"]) if one["labels_set"] else None),
            ("its API", one["api_url"]),
            ("enrolled", one["enrolled_at"]),
            ("instance", one["instance"]),
            ("fenced", _fenced(one, moment)),
            ("frozen", _freezes(one["freezes"])),
            ("paused", _pause(one.get("pause"), moment)),
            ("brakes", _brakes(_own_brakes(one))),
            ("actions", counts or "none"),
            ("undelivered", one["undelivered"]),
            ("kinds", kinds or "not reported yet"),
        ]
    )


def _silent(one: dict[str, Any]) -> str:
    if one["silent"]:
        return f"since {one['silent_at']}" if one["silent_at"] else "never heard of yet"
    return f"no; would be at {one['lease_until']}"


def _fenced(one: dict[str, Any], moment: datetime) -> str | None:
    if not one["fenced_count"]:
        return None
    when = relative(one["fenced_at"], moment)
    return f"{one['fenced_count']} times, last {when}: two machines may share this identity"
