"""`agentctl show`: one action whole, with the reason for its state in a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from agent.cli.api_client import segment
from agent.cli.door import Node
from agent.cli.node_commands.command import node_command
from agent.cli.sentences import explain
from agent.cli.tables import text
from agent.cli.times import clock_time, relative

BAR_CELLS = 20
TAIL_LINES_MAX = 12
_HIDDEN = frozenset(
    {"id", "kind", "phase", "execution_status", "reason", "error", "output", "progress", "verdict"}
    | {"attempt", "exit_code", "signal", "started_at", "ended_at", "due_at", "accepted_at"}
    | {"parallel", "stopping", "should_be_executed", "daemon"}
)


@click.command("show")
@click.argument("action_id", metavar="ID")
@node_command
def command(node: Node, action_id: str) -> None:
    """Show one action: what it is, how it stands and why."""
    now = node.now()
    action = node.read(
        lambda api: api.get(f"/v1/actions/{segment(action_id)}"),
        lambda state: state.show(action_id, now),
    )
    if node.as_json:
        node.print_json(action)
        return
    node.tell_if_down()
    click.echo("\n".join(describe(action, now)))


def describe(action: dict[str, Any], now: datetime) -> Iterator[str]:
    """The lines for people."""
    yield f"{action['id']}  {action['kind']}  {action['phase']}"
    yield f"  {explain(action, now)}"
    if action.get("error"):
        yield f"  error         {_one_line(action['error'])}"
    yield from _progress(action.get("progress"))
    yield f"  status        {_status(action)}"
    for name in ("accepted_at", "due_at", "started_at", "ended_at"):
        if action.get(name):
            when = f"{clock_time(action[name])}  ({relative(action[name], now)})"
            yield f"  {name:<13} {when}"
    for name in sorted(action):
        value = action[name]
        if name in _HIDDEN or value in (None, {}, [], False):
            continue
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield f"  {name:<13} {_one_line(shown)}"
    yield from _output(action.get("output") or {}, action["id"])


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


def bar(percent: float, cells: int = BAR_CELLS) -> str:
    """Progress as a bar of text."""
    full = round(max(0.0, min(100.0, percent)) / 100 * cells)
    return f"[{'#' * full}{'.' * (cells - full)}]"


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
