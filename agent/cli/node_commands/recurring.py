"""`agentctl recurring`: this node's recurring actions, looked after while they run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from agent.cli import completing
from agent.cli.api_client import segment
from agent.cli.defining import changed_schedule, compose, definition_options
from agent.cli.door import Node
from agent.cli.node_commands.command import node_command
from agent.cli.rules import describe, in_words, in_zone, kind_of, next_of, state_of
from agent.cli.tables import table, width_of_output
from agent.cli.values import instant

PAGE = 500
COLUMNS = ("ID", "KIND", "STATE", "SCHEDULE", "NEXT", "RUNS")
LATEST_COLUMNS = ("OCCURRENCE", "PHASE", "REASON", "CODE", "WHEN")
RULE = "/v1/recurring"
_OF_THE_NODE = frozenset(
    {"state", "paused", "next_at", "next_nominal_at", "last_nominal_at", "run_count", "ended_at"}
    | {"ended_reason", "zone", "offset_s", "latest", "requester", "revision", "anchor_at"}
    | {"accepted_at", "daemon", "paused_by", "since_at", "parked"}
)
"""Members of a rule's view that are the node's; the rest is its definition."""

_id = click.argument("rule_id", metavar="ID", shell_complete=completing.rule_ids)


@click.group("recurring")
def command() -> None:
    """Recurring actions: list, show, add, edit, pause, resume, run, backfill, remove."""


def _path(rule_id: str, verb: str = "") -> str:
    return f"{RULE}/{segment(rule_id)}{verb}"


@command.command("list")
@click.option("--active", is_flag=True, help="Without those that have ended.")
@node_command
def list_rules(node: Node, active: bool) -> None:
    """All of them, with their next instant; those that have ended last."""
    now = node.now()
    found = node.read(
        lambda api: _all(lambda after: api.get(RULE, limit=PAGE, after=after)),
        lambda state: _all(lambda after: state.recurring(now, after, PAGE)),
    )
    ended = [rule for rule in found if rule["state"] == "ended"]
    rules = [rule for rule in found if rule["state"] != "ended"] + ([] if active else ended)
    if node.as_json:
        node.print_json({"recurring": rules})
        return
    node.tell_if_down()
    kinds = _kinds(node) if rules else None
    rows = [_row(rule, now, kinds) for rule in rules]
    click.echo(table(COLUMNS, rows, width_of_output(), flow={"STATE", "SCHEDULE"}))


def _all(page_behind: Callable[[str | None], dict[str, Any]]) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = []
    after = None
    while True:
        page = page_behind(after)
        rules += page["recurring"]
        after = page["next"]
        if after is None:
            return rules


def _kinds(node: Node) -> dict[str, Any] | None:
    """What is installed, by name; None where that is not known: no daemon, or not read yet."""
    if node.down:
        return None
    kinds = node.ask(lambda api: api.get("/v1/kinds"))["kinds"]
    return {kind["kind"]: kind for kind in kinds} or None


def _row(rule: dict[str, Any], now: datetime, kinds: dict[str, Any] | None) -> list[str]:
    return [
        rule["id"],
        kind_of(rule, kinds),
        state_of(rule),
        in_words(rule.get("schedule")),
        next_of(rule, now),
        str(rule.get("run_count", 0)),
    ]


@command.command("show")
@_id
@node_command
def show_rule(node: Node, rule_id: str) -> None:
    """One of them: its schedule, what comes, what came of the last occurrences."""
    tell_rule(node, rule_id)


def tell_rule(node: Node, rule_id: str) -> None:
    """Also `agentctl show ID`."""
    from agent.cli.node_commands.list import when  # noqa: PLC0415  (only here)
    from agent.cli.node_commands.show import fields  # noqa: PLC0415

    now = node.now()
    rule = node.read(
        lambda api: api.get(_path(rule_id)), lambda state: state.show_recurring(rule_id, now)
    )
    if node.as_json:
        node.print_json(rule)
        return
    node.tell_if_down()
    hidden = _OF_THE_NODE | {"id", "kind", "schedule", "should_be_executed"}
    lines = [*describe(rule, now, _kinds(node)), *fields(rule, hidden)]
    latest = rule.get("latest") or []
    if latest:
        rows = [
            [one["id"], one["phase"], one.get("reason") or "-",
             "-" if one.get("exit_code") is None else one["exit_code"], when(one, now)]
            for one in latest
        ]  # fmt: skip
        lines.append(table(LATEST_COLUMNS, rows, width_of_output()))
    click.echo("\n".join(lines))


@command.command("add")
@click.argument("kind", shell_complete=completing.kinds)
@definition_options
@click.option("--id", "rule_id", help="Its name, and the beginning of its occurrences' ids.")
@node_command
def add(node: Node, kind: str, rule_id: str | None, **given: Any) -> None:
    """Run KIND again and again; the same as `agentctl run KIND` with a schedule."""
    from agent.cli.node_commands.run import tell_new_rule  # noqa: PLC0415

    document = {"kind": kind, **({"id": rule_id} if rule_id else {})}
    document |= compose(given, node.now())
    if "schedule" not in document:
        raise click.UsageError(
            "no schedule: give --schedule, --cron, --every, --at, --date or --after"
        )
    tell_new_rule(node, document)


@command.command("edit")
@_id
@definition_options
@node_command
def edit(node: Node, rule_id: str, **given: Any) -> None:
    """Change what is given, keep the rest. Only later instants are affected."""
    changes = compose(given, node.now())
    if not changes:
        raise click.UsageError("nothing to change: give the options that are to be different")
    before = node.ask(lambda api: api.get(_path(rule_id)))
    document = {key: value for key, value in before.items() if key not in _OF_THE_NODE}
    schedule = changed_schedule(document.get("schedule"), changes.pop("schedule", None))
    document |= {**changes, "schedule": schedule, "revision": before["revision"] + 1}
    rule = node.ask(lambda api: api.call("PUT", _path(rule_id), body=document))
    _tell(node, rule, f"{rule_id} is changed; next {_next(rule)}")


@command.command("pause")
@_id
@click.option("--reason", help="Why; shown until it is resumed.")
@node_command
def pause(node: Node, rule_id: str, reason: str | None) -> None:
    """No occurrence of it, until it is resumed; one that runs goes on."""
    pause_rule(node, rule_id, reason)


def pause_rule(node: Node, rule_id: str, reason: str | None) -> None:
    """Also `agentctl pause ID`."""
    body = {"reason": reason} if reason else {}
    rule = node.ask(lambda api: api.post(_path(rule_id, "/pause"), body))
    _tell(node, rule, f"{rule_id} is paused; go on with: agentctl resume {rule_id}")


@command.command("resume")
@_id
@node_command
def resume(node: Node, rule_id: str) -> None:
    """Go on; what it missed is treated as after downtime."""
    resume_rule(node, rule_id)


def resume_rule(node: Node, rule_id: str) -> None:
    """Also `agentctl resume ID`."""
    rule = node.ask(lambda api: api.post(_path(rule_id, "/resume")))
    _tell(node, rule, f"{rule_id} goes on; next {_next(rule)}")


@command.command("run")
@_id
@click.option("--wait", is_flag=True, help="Until it has ended; exit code 1 unless it FINISHED.")
@node_command
def run_now(node: Node, rule_id: str, wait: bool) -> None:
    """One occurrence now, besides the planned ones."""
    from agent.cli.waiting import tell_new  # noqa: PLC0415

    tell_new(node, node.ask(lambda api: api.post(_path(rule_id, "/run"))), wait=wait)


@command.command("backfill")
@_id
@click.argument("begin", metavar="FROM")
@click.argument("end", metavar="TO")
@node_command
def backfill(node: Node, rule_id: str, begin: str, end: str) -> None:
    """Run the occurrences from FROM up to (not including) TO again."""
    now = node.now()
    body = {"from": instant(begin, "FROM", now), "to": instant(end, "TO", now)}
    told = node.ask(lambda api: api.post(_path(rule_id, "/backfill"), body))
    if node.as_json:
        node.print_json(told)
        return
    for action_id in told["created"]:
        click.echo(action_id)
    if told.get("truncated"):
        click.echo("only the first ones; go on from the last of them", err=True)
    if not told["created"]:
        click.echo("no instant of its schedule lies in there", err=True)


@command.command("remove")
@click.argument("rule_ids", metavar="ID...", nargs=-1, required=True,
                shell_complete=completing.rule_ids)  # fmt: skip
@node_command
def remove(node: Node, rule_ids: tuple[str, ...]) -> None:
    """No occurrence any more: what waits is withdrawn, what runs goes on."""
    removed = []
    for rule_id in rule_ids:
        path = _path(rule_id)
        rule = node.ask(lambda api, path=path: api.call("DELETE", path))  # type: ignore[misc]
        removed.append(rule or {"id": rule_id})
        if not node.as_json:
            click.echo(f"{rule_id} is removed")
    if node.as_json:
        node.print_json(removed[0] if len(removed) == 1 else {"recurring": removed})


def _next(rule: dict[str, Any]) -> str:
    return in_zone(rule.get("next_at"), rule.get("zone"))


def _tell(node: Node, rule: dict[str, Any], told: str) -> None:
    if node.as_json:
        node.print_json(rule)
    else:
        click.echo(told)
