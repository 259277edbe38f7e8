"""`agentctl list`: what waits and runs, oldest first; what has ended, newest first."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from agent.cli.door import Node
from agent.cli.node_commands.command import node_command
from agent.cli.tables import table, width_of_output
from agent.cli.times import relative

if TYPE_CHECKING:
    from agent.cli.api_client import ApiClient
    from agent.node.offline import OfflineState

LIMIT_DEFAULT = 50
PAGE = 500  # the API's largest
STATUSES = ("NULL", "STARTED", "FINISHED", "FAILED", "WONT_START", "WONT_FINISH")
COLUMNS = ("ID", "KIND", "PHASE", "REASON", "TRY", "CODE", "WHEN")


@click.command("list")
@click.option("--queue", "view", flag_value="queue", help="Only what waits or runs, oldest first.")
@click.option("--finished", "view", flag_value="finished", help="Only what ended, newest first.")
@click.option(
    "--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only this status."
)
@click.option("--kind", help="Only this kind.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=LIMIT_DEFAULT, show_default=True,
    help="At most so many of each.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="No limit.")
@node_command
def command(
    node: Node, view: str | None, status: str | None, kind: str | None, limit: int,
    everything: bool,
) -> None:  # fmt: skip
    """List actions: the queue oldest first, then what has ended, newest first."""
    now = node.now()
    if view is None and status is not None:
        view = "queue" if status in STATUSES[:2] else "finished"
    actions, more = [], False
    for one in [view] if view else ["queue", "finished"]:
        wanted = Wanted(one, status, kind, None if everything else limit, now)
        found, rest = node.read(wanted.from_api, wanted.from_state)
        actions += found
        more = more or rest
    if node.as_json:
        node.print_json({"actions": actions, "more": more})
        return
    node.tell_if_down()
    rows = [_row(action, now) for action in actions]
    click.echo(table(COLUMNS, rows, width_of_output()))
    if more:
        click.echo("There are more: --limit N, or --all", err=True)


class Wanted:
    """One view, followed page by page up to the limit."""

    def __init__(
        self, view: str, status: str | None, kind: str | None, limit: int | None, now: datetime
    ) -> None:
        self._view = view
        self._status = status
        self._kind = kind
        self._limit = limit
        self._now = now

    def from_api(self, api: ApiClient) -> tuple[list[dict[str, Any]], bool]:
        """From a running agentd: the actions, and whether there are more."""
        return self._follow(
            lambda limit, after: api.get(
                "/v1/actions", view=self._view, status=self._status, kind=self._kind,
                limit=limit, after=after,
            )
        )  # fmt: skip

    def from_state(self, state: OfflineState) -> tuple[list[dict[str, Any]], bool]:
        """The same from the database of an agentd that is down."""
        narrowed = (self._view, self._status, self._kind)
        return self._follow(lambda limit, after: state.page(*narrowed, limit, after, self._now))

    def _follow(self, ask: Any) -> tuple[list[dict[str, Any]], bool]:
        actions: list[dict[str, Any]] = []
        after = None
        while self._limit is None or len(actions) < self._limit:
            room = PAGE if self._limit is None else min(PAGE, self._limit - len(actions))
            page = ask(room, after)
            actions += page["actions"]
            after = page["next"]
            if after is None:
                return actions, False
        return actions, True


def _row(action: dict[str, Any], now: datetime) -> list[str]:
    code = action["exit_code"]
    return [
        action["id"],
        action["kind"],
        action["phase"],
        action["reason"] or "-",
        str(action["attempt"] or "-"),
        "-" if code is None else str(code),
        _when(action, now),
    ]


def _when(action: dict[str, Any], now: datetime) -> str:
    if action["ended_at"] and action["execution_status"] not in ("NULL", "STARTED"):
        return f"ended {relative(action['ended_at'], now)}"
    if action["execution_status"] == "STARTED":
        return f"started {relative(action['started_at'], now)}"
    return f"due {relative(action['due_at'], now)}"
