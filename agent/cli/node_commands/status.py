"""`agentctl status`: the node at a glance, in 80 columns; with `--watch` live.

On a terminal the board is drawn in place; into a pipe each change is a block of lines, and with
`--json` a document on a line of its own.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from agent.cli.door import Node
from agent.cli.lines import Line
from agent.cli.node_commands.command import node_command
from agent.cli.status_lines import facts
from agent.cli.times import relative
from agent.domain.instants import format_instant
from agent.version import VERSION

if TYPE_CHECKING:
    from agent.cli.screen import Screen
    from agent.cli.snapshot import Snapshot, Watcher

RUNNING_SHOWN_MAX = 10
CLOCK_S = 1.0
FOOT = "q or Ctrl-C ends"


@click.command("status")
@click.option("--watch", is_flag=True, help="Live, until q or Ctrl-C.")
@node_command
def command(node: Node, watch: bool) -> None:
    """Show what this node does, waits for and last did."""
    if not watch:
        _once(node)
        return
    from agent.cli.screen import can_be_drawn_on  # noqa: PLC0415  (a plain status is quicker)
    from agent.cli.snapshot import Watcher  # noqa: PLC0415

    watcher = Watcher(node)
    if can_be_drawn_on() and not node.as_json:
        _on_screen(node, watcher)
    else:
        _as_lines(node, watcher)


def _once(node: Node) -> None:
    now = node.now()
    status = node.read(lambda api: api.get("/v1/status"), lambda state: state.status(now, VERSION))
    if node.as_json:
        node.print_json(status)
        return
    click.echo("\n".join(line.shown(None, colours=False) for line in describe(status, now)))


def describe(status: dict[str, Any], now: datetime) -> Iterator[Line]:
    """The lines for people."""
    yield from facts(status, now)
    running = status["running"]
    if running:
        yield Line("  running")
    for action in running[:RUNNING_SHOWN_MAX]:
        since = relative(action["started_at"], now)
        stopping = f", being stopped ({action['stopping']})" if action["stopping"] else ""
        yield Line(
            f"    {action['id']}  {action['kind']}, attempt {action['attempt']}, "
            f"started {since}{stopping}"
        )
    if len(running) > RUNNING_SHOWN_MAX:
        rest = len(running) - RUNNING_SHOWN_MAX
        yield Line(f"    … and {rest} more: agentctl list --status STARTED")


def _as_lines(node: Node, watcher: Watcher) -> None:
    from agent.cli.board import as_block, board  # noqa: PLC0415

    seen = watcher.look()
    told = None
    while True:
        essence = seen.essence()
        if essence != told:
            now = node.now()
            if node.as_json:
                document = {"at": format_instant(now), **seen.document()}
                click.echo(json.dumps(document, ensure_ascii=False))
            else:
                lines = as_block(board(seen, now))
                click.echo("\n".join([format_instant(now), *lines, ""]))
            sys.stdout.flush()
            told = essence
        seen = watcher.next_look()


def _on_screen(node: Node, watcher: Watcher) -> None:
    from agent.cli.board import board  # noqa: PLC0415
    from agent.cli.screen import Screen  # noqa: PLC0415

    first = watcher.look()  # what cannot be watched is said on the screen of the shell
    with Screen() as screen:
        looks = _Looks(watcher, screen, first)
        threading.Thread(target=looks.run, daemon=True).start()
        going = True
        while going:
            if looks.failure is not None:
                raise looks.failure
            now = node.now()
            foot = f"{now.astimezone():%Y-%m-%d %H:%M:%S %Z}   {FOOT}"
            screen.draw(board(looks.latest, now, *screen.size, foot=foot))
            going = screen.wait(CLOCK_S - time.time() % CLOCK_S)


class _Looks:
    """The newest snapshot, taken by a thread, so that clock and keys never wait for agentd."""

    def __init__(self, watcher: Watcher, screen: Screen, first: Snapshot) -> None:
        self._watcher = watcher
        self._screen = screen
        self.latest = first
        self.failure: Exception | None = None

    def run(self) -> None:
        """Until the process ends, or the watching fails."""
        while self.failure is None:
            try:
                self.latest = self._watcher.next_look()
            except Exception as error:  # noqa: BLE001  (raised by whoever owns the screen)
                self.failure = error
            self._screen.wake()
