"""`agentctl show`: one action whole, with the reason for its state in a sentence."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

import click

from agent.cli import completing
from agent.cli.api_client import segment
from agent.cli.bars import bar
from agent.cli.door import Node
from agent.cli.evidence import missed
from agent.cli.exits import NOT_FOUND, Failure
from agent.cli.node_commands.command import node_command
from agent.cli.sentences import explain
from agent.cli.tables import text
from agent.cli.times import clock_time, relative, span

TAIL_LINES_MAX = 12
_HIDDEN = frozenset(
    {"id", "kind", "phase", "execution_status", "reason", "error", "output", "progress", "verdict"}
    | {"attempt", "exit_code", "signal", "started_at", "ended_at", "due_at", "accepted_at"}
    | {"parallel", "stopping", "should_be_executed", "daemon", "lane", "terms"}
    | {"from_date", "to_date", "timeout_s", "recurring_id", "nominal_at", "missed", "parked"}
)


@click.command("show")
@click.argument("action_id", metavar="ID", shell_complete=completing.action_ids)
@node_command
def command(node: Node, action_id: str) -> None:
    """Show one action: what it is, how it stands and why."""
    now = node.now()
    try:
        action = node.read(
            lambda api: api.get(f"/v1/actions/{segment(action_id)}"),
            lambda state: state.show(action_id, now),
        )
    except Failure as error:
        if error.exit_code == NOT_FOUND and _show_rule(node, action_id):
            return
        raise
    if node.as_json:
        node.print_json(action)
        return
    node.tell_if_down()
    click.echo("\n".join(describe(action, now)))


def _show_rule(node: Node, rule_id: str) -> bool:
    """The id may be a recurring action's: they share one name space. Whether it is."""
    from agent.cli.node_commands.recurring import tell_rule  # noqa: PLC0415

    try:
        tell_rule(node, rule_id)
    except Failure as error:
        if error.exit_code == NOT_FOUND:
            return False  # then there is nothing of this name, as was said first
        raise
    return True


def describe(action: dict[str, Any], now: datetime) -> Iterator[str]:
    """The lines for people."""
    yield f"{action['id']}  {action['kind']}  {action['phase']}"
    see = f" For what: agentctl why {action['id']}" if action["phase"] == "QUEUED" else ""
    yield f"  {explain(action, now)}{see}"
    if action.get("error"):
        yield f"  error         {_one_line(action['error'])}"
    yield from _progress(action.get("progress"))
    yield f"  status        {_status(action)}"
    for name in ("accepted_at", "due_at", "started_at", "ended_at"):
        if action.get(name):
            when = f"{clock_time(action[name])}  ({relative(action[name], now)})"
            yield f"  {name:<13} {when}"
    yield from _bounds(action, now)
    yield from _occurrence(action)
    yield from fields(action, _HIDDEN)
    yield from _output(action.get("output") or {}, action["id"])


def _bounds(action: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """The window, and after how long an attempt is stopped, by whichever side says less."""
    begin, end = action.get("from_date"), action.get("to_date")
    if end:
        opens = clock_time(begin) if begin else "acceptance"
        yield f"  window        {opens} to {clock_time(end)}  ({relative(end, now)})"
    terms = action.get("terms") or {}
    timeout_s = terms.get("timeout_s") or action.get("timeout_s")
    if timeout_s:
        own = "" if timeout_s == action.get("timeout_s") else "  (by the kind's manifest)"
        yield f"  timeout       {span(timeout_s)}{own}"


def _occurrence(action: Mapping[str, Any]) -> Iterator[str]:
    """Which instant of which recurring action this is."""
    rule, nominal_at = action.get("recurring_id"), action.get("nominal_at")
    if rule:
        of = f", planned for {clock_time(nominal_at)}" if nominal_at else ""
        yield f"  occurrence    of {rule}{of}; see: agentctl recurring show {rule}"
    if action.get("missed"):
        yield f"  missed        {missed(action['missed'])}"
    if action.get("parked"):
        yield f"  parked        {_one_line(str(action['parked']))}"


def fields(document: Mapping[str, Any], hidden: Collection[str]) -> Iterator[str]:
    """Every other member that says something, by name."""
    for name in sorted(document):
        value = document[name]
        if name in hidden or value in (None, {}, [], False):
            continue
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield f"  {name:<13} {_one_line(shown)}"


def _status(action: dict[str, Any]) -> str:
    told = str(action["execution_status"])
    if action.get("reason"):
        told += f" ({action['reason']})"
    if action.get("attempt"):
        told += f", attempt {action['attempt']}"
    if action.get("exit_code") is not None:
        told += f", exit code {action['exit_code']}"
    if action.get("signal") is not None:
        told += f", signal {action['signal']}"
    return told


def _progress(progress: dict[str, Any] | None) -> Iterator[str]:
    if progress is None or progress.get("percent") is None:
        return
    percent = progress["percent"]
    message = _one_line(progress.get("message") or "")
    yield f"  progress      {bar(percent)} {percent:3.0f} %  {message}".rstrip()


def _output(output: dict[str, Any], action_id: str) -> Iterator[str]:
    for stream in ("stdout", "stderr"):
        told = output.get(stream)
        if not told:
            continue
        cut = ", the middle was not kept" if told.get("truncated") else ""
        yield f"  {stream} ({told['bytes']} bytes{cut}; all of it: agentctl logs {action_id})"
        if "tail" in told:
            lines = told["tail"].splitlines()
            for line in lines[-TAIL_LINES_MAX:]:
                yield f"    | {_one_line(line)}"
        elif "tail_base64" in told:
            yield "    | (not text)"


def _one_line(value: str) -> str:
    return text(value).replace("\n", " ")
