"""`corectl tokens [create | revoke]` and `corectl audit [verify]`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import click

from agent.cli.api_client import ApiClient, segment
from agent.cli.core_commands.context import CoreContext
from agent.cli.exits import ACTION_FAILED, NOT_FOUND, Failure
from agent.cli.output import Command, Group, json_option, now, show
from agent.cli.paging import PAGE, and_more, read_pages
from agent.cli.tables import pairs, table, width_of_output
from agent.cli.times import relative
from agent.cli.values import span_s
from agent.wire import strict_json

_HEAD = re.compile(r"[0-9]{1,15}\.[0-9a-f]{64}")
ROLES = ("viewer", "operator", "approver", "admin")


@click.group("tokens", cls=Group, invoke_without_command=True)
@click.option("--all", "whole", is_flag=True, help="The revoked and expired ones too.")
@json_option
@click.pass_context
def tokens(context: click.Context, whole: bool, as_json: bool) -> None:
    """Who may operate the core, and as what."""
    if context.invoked_subcommand is not None:
        return
    core: CoreContext = context.obj
    listed = list(_tokens(core.client(), whole=whole))
    show(context, {"tokens": listed}, _tokens_table(listed, whole=whole))


def _tokens(client: ApiClient, *, whole: bool) -> Iterator[dict[str, Any]]:
    after: str | None = None
    while True:
        page = client.get("/v1/tokens", all=whole or None, after=after, limit=PAGE)
        yield from page["tokens"]
        after = page["next"]
        if after is None:
            return


def _tokens_table(listed: list[dict[str, Any]], *, whole: bool) -> str:
    moment = now()
    headers = ["NAME", "ROLE", "USED", "EXPIRES", "CREATED", "BY", "ID"]
    rows = [
        [
            one["name"], one["role"], relative(one["last_used_at"], moment),
            relative(one["expires_at"], moment), relative(one["created_at"], moment),
            one["created_by"], one["id"], one["state"],
        ]
        for one in sorted(listed, key=lambda one: one["name"])
    ]  # fmt: skip
    shown = [row if whole else row[:-1] for row in rows]
    return table([*headers, "STATE"] if whole else headers, shown, width_of_output())


@tokens.command("create", cls=Command)
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What it is for.")
@click.option("--ttl", help="How long it can be used, as 90d; for ever unless given.")
@json_option
@click.pass_context
def create(context: click.Context, name: str, role: str, ttl: str | None, as_json: bool) -> None:
    """Make a token for a person or a program; it is printed once and nowhere kept."""
    core: CoreContext = context.obj
    body = {"name": name, "role": role} | ({"ttl_s": span_s(ttl, "--ttl")} if ttl else {})
    made = core.client().post("/v1/tokens", body)
    show(context, made, made["token"])


@tokens.command("revoke", cls=Command)
@click.argument("token", metavar="NAME|ID")
@json_option
@click.pass_context
def revoke(context: click.Context, token: str, as_json: bool) -> None:
    """Take a token back; it opens nothing from then on."""
    core: CoreContext = context.obj
    client = core.client()
    found = next(
        (one for one in _tokens(client, whole=False) if token in (one["name"], one["id"])), None
    )
    if found is None:
        raise Failure(NOT_FOUND, "not_found", f"there is no token {token!r} in use")
    client.call("DELETE", f"/v1/tokens/{segment(found['id'])}")
    show(context, {"revoked": found["id"], "name": found["name"]}, f"revoked {found['name']}")


@click.group("audit", cls=Group, invoke_without_command=True)
@click.option("--who", help="Only what this one did.")
@click.option("--what", help="Only this, as dispatch.")
@click.option("--target", help="Only what was done to this.")
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True,
    help="At most so many.",
)  # fmt: skip
@json_option
@click.pass_context
def audit(context: click.Context, /, limit: int, as_json: bool, **wanted: Any) -> None:
    """Who asked for what, newest first."""
    if context.invoked_subcommand is not None:
        return
    core: CoreContext = context.obj
    client = core.client()
    lines, after = read_pages(client, "/v1/audit", "lines", limit, **wanted)
    readable = _audit_table(lines) + and_more(after, limit)
    show(context, {"lines": lines, "next": after}, readable)


def _audit_table(lines: list[dict[str, Any]]) -> str:
    if not lines:
        return "nothing"
    rows = [
        [one["at"], one["who"], one["what"], one["target"] or None, _detail(one["detail"])]
        for one in lines
    ]
    headers = ["AT", "WHO", "WHAT", "TARGET", "DETAIL"]
    return table(headers, rows, width_of_output(), flow={"DETAIL"})


def _detail(detail: dict[str, Any]) -> str:
    told = ((name, value) for name, value in detail.items() if value not in (None, "", [], {}))
    return ", ".join(
        f"{name} {value if isinstance(value, str) else strict_json.encode_text(value)}"
        for name, value in told
    )


@audit.command("verify", cls=Command)
@click.option("--head", help="One that was noted elsewhere: it must still be there.")
@json_option
@click.pass_context
def verify(context: click.Context, head: str | None, as_json: bool) -> None:
    """Walk the whole log; exit code 1 if it was touched. Note the printed head elsewhere."""
    core: CoreContext = context.obj
    if head is not None and not _HEAD.fullmatch(head):
        raise click.UsageError(f"--head: {head!r} is not ROW.HASH, as this command prints it")
    found = _walk(core.client())
    if found["ok"] and head is not None:
        noted = core.client().get("/v1/audit/verify", after=head, limit=1)
        found |= {"ok": noted["ok"], "broken": noted["broken"]}
    show(context, found, _verdict(found))
    if not found["ok"]:
        context.exit(ACTION_FAILED)


def _walk(client: ApiClient) -> dict[str, Any]:
    """The verdict on all of it, part by part."""
    checked, after = 0, None
    while True:
        found: dict[str, Any] = client.get("/v1/audit/verify", after=after)
        checked += found["checked"]
        after = found["next"]
        if after is None:
            members = ("ok", "head", "broken")
            return {"checked": checked, **{name: found[name] for name in members}}


def _verdict(found: dict[str, Any]) -> str:
    broken = found["broken"]
    return pairs(
        [
            ("log", "is whole" if broken is None else "was touched"),
            ("lines", f"{found['checked']} are good"),
            ("head", found["head"]),
            ("broken", f"row {broken['row']}: {broken['why']}" if broken else None),
        ]
    )
