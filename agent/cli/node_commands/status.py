"""`agentctl status`: the node at a glance, in 80 columns."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from agent.cli.door import Node
from agent.cli.exits import INTERRUPTED
from agent.cli.node_commands.command import node_command
from agent.cli.times import relative, span
from agent.version import VERSION

RUNNING_SHOWN_MAX = 10
WATCH_S_MIN = 0.5
_CLEAR = "\x1b[H\x1b[2J"


@click.command("status")
@click.option("--watch", is_flag=True, help="Again and again, until Ctrl-C.")
@click.option(
    "--every", "every_s", type=click.FloatRange(min=WATCH_S_MIN), default=2.0, show_default=True,
    metavar="SECONDS", help="With --watch: how often.",
)  # fmt: skip
@node_command
def command(node: Node, watch: bool, every_s: float) -> None:
    """Show what this node does, waits for and last did."""
    try:
        while True:
            _once(node, clear=watch and sys.stdout.isatty() and not node.as_json)
            if not watch:
                return
            time.sleep(every_s)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _once(node: Node, *, clear: bool) -> None:
    node.down = False
    now = node.now()
    status = node.read(lambda api: api.get("/v1/status"), lambda state: state.status(now, VERSION))
    if node.as_json:
        node.print_json(status)
        return
    text = "\n".join(describe(status, now))
    click.echo(f"{_CLEAR}{text}" if clear else text)


def describe(status: dict[str, Any], now: datetime) -> Iterator[str]:
    """The lines for people."""
    yield _headline(status)
    counts = status["counts"]
    waiting = counts["NULL"] - status["queued"]
    yield (
        f"  actions  {counts['STARTED']} running, {status['queued']} queued, {waiting} scheduled"
        + (f"; next due {relative(status['next_due_at'], now)}" if counts["NULL"] else "")
    )
    yield (
        f"  ended    {counts['FINISHED']} finished, {counts['FAILED']} failed, "
        f"{counts['WONT_FINISH']} not finished, {counts['WONT_START']} not started"
    )
    if status["core"]["url"]:
        yield f"  core     {status['core']['url']}"
        yield f"           {_core(status['core'], now)}"
    else:
        yield f"  core     {_core(status['core'], now)}"
    yield f"  runner   {_runner(status['runner'])}"
    if status["paused"]:
        yield "  PAUSED   nothing starts until `agentctl resume`"
    if status["refused_definitions"]:
        yield f"  REFUSED  {status['refused_definitions']} definitions of the core; see the log"
    if status["store_problem"]:
        yield f"  PROBLEM  the database cannot be written: {status['store_problem']}"
    yield from _running(status["running"], now)


def _headline(status: dict[str, Any]) -> str:
    name = status["agent_id"] or "(no name yet)"
    if status["daemon"] == "down":
        return f"{name}: agentd is DOWN; this is what its database says"
    up = span(status["uptime_s"])
    return f"{name}: agentd {status['version']} is running, pid {status['pid']}, up {up}"


def _core(core: dict[str, Any], now: datetime) -> str:
    outbox = f"{core['outbox']} events to report" if core["outbox"] else "everything reported"
    if core["fenced"]:
        return f"FENCED: {core['problem']}"
    if core["connected"]:
        pulled = (
            f", last pull {relative(core['last_pull_at'], now)}" if core["last_pull_at"] else ""
        )
        polling = ", by polling" if core["polling"] else ""
        return f"connected{polling}{pulled}; {outbox}"
    if core["url"] is None and not core["enrolled"]:
        return "none; this node works alone"
    return f"not connected: {core['problem'] or 'not yet'}; {outbox}"


def _runner(runner: dict[str, Any]) -> str:
    if runner["connected"]:
        return f"{runner['version']} is running, pid {runner['pid']}"
    if runner["pid"]:
        return f"is running, pid {runner['pid']}; {runner['problem']}"
    return f"not connected: {runner['problem']}"


def _running(running: list[dict[str, Any]], now: datetime) -> Iterator[str]:
    if running:
        yield "  running"
    for action in running[:RUNNING_SHOWN_MAX]:
        since = relative(action["started_at"], now)
        stopping = f", being stopped ({action['stopping']})" if action["stopping"] else ""
        yield (
            f"    {action['id']}  {action['kind']}, attempt {action['attempt']}, "
            f"started {since}{stopping}"
        )
    if len(running) > RUNNING_SHOWN_MAX:
        yield f"    … and {len(running) - RUNNING_SHOWN_MAX} more: agentctl list --status STARTED"
