"""`agentctl list`: what waits and runs, oldest first; what has ended, newest first.

The daemon narrows by what it has an index for; the rest (labels, phase) is filtered here, page by
page, until there are as many as were asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from agent.cli import completing
from agent.cli.api_client import segment
from agent.cli.defining import Reading
from agent.cli.door import Node
from agent.cli.exits import NOT_FOUND, Failure
from agent.cli.node_commands.command import node_command
from agent.cli.tables import table, width_of_output
from agent.cli.times import read_when, relative

if TYPE_CHECKING:
    from agent.cli.api_client import ApiClient
    from agent.node.offline import OfflineState

LIMIT_DEFAULT = 50
PAGE = 500  # the API's largest
STATUSES = ("NULL", "STARTED", "FINISHED", "FAILED", "WONT_START", "WONT_FINISH")
COLUMNS = ("ID", "KIND", "PHASE", "REASON", "TRY", "CODE", "WHEN")
MORE = "There are more: --limit N, --all, or narrow it by --since, --status, --kind, --label"
_AGO = "-"


class _Status(click.Choice[str]):
    """The execution statuses; a phase is another option's, and that is said."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The status as it is written. Fails as every choice does."""
        from agent.domain.phase import Phase  # noqa: PLC0415

        if value.upper() not in STATUSES and value.upper() in Phase.__members__:
            self.fail(f"{value!r} is a phase; ask with --phase {value.upper()}", param, ctx)
        return super().convert(value, param, ctx)


@click.command("list")
@click.option("--queue", "view", flag_value="queue", help="Only what waits or runs, oldest first.")
@click.option("--finished", "view", flag_value="finished", help="Only what ended, newest first.")
@click.option("--status", type=_Status(STATUSES, case_sensitive=False), help="Only this status.")
@click.option("--phase", help="Only this phase, as RUNNING or CANCELLED.")
@click.option("--kind", shell_complete=completing.kinds, help="Only this kind.")
@click.option("--recurring", metavar="ID", shell_complete=completing.rule_ids,
              help="Only occurrences of this recurring action.")  # fmt: skip
@click.option("--label", "labels", multiple=True, metavar="K=V", help="Only with this label.")
@click.option("--since", metavar="WHEN", help="Due or ended from then on; -2h: two hours ago.")
@click.option("--until", metavar="WHEN", help="Due or ended before then.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=LIMIT_DEFAULT, show_default=True,
    help="At most so many of each.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="No limit.")
@click.option("--jsonl", is_flag=True, help="One JSON document per action and line.")
@node_command
def command(node: Node, view: str | None, jsonl: bool, **given: Any) -> None:
    """List actions: the queue oldest first, then what has ended, newest first."""
    now = node.now()
    status = given["status"]
    if view is None and status is not None:
        view = "queue" if status in STATUSES[:2] else "finished"
    wanted = _read(given, now)
    actions: list[dict[str, Any]] = []
    more = False
    for one in [view] if view else ["queue", "finished"]:
        found, rest = node.read(wanted.from_api(one), wanted.from_state(one))
        actions += found
        more = more or rest
    if jsonl:
        for action in actions:
            click.echo(json.dumps(action, ensure_ascii=False))
    elif node.as_json:
        node.print_json({"actions": actions, "more": more})
        return
    else:
        click.echo(table(COLUMNS, [_row(action, now) for action in actions], width_of_output()))
    node.tell_if_down()
    if more:
        click.echo(MORE, err=True)
    if not actions:
        _tell_unknown(node, wanted)


def _tell_unknown(node: Node, wanted: Wanted) -> None:
    """Nothing was found: of a name that nobody knows here that is no wonder."""
    rule_id, kind = wanted.recurring, wanted.kind
    if rule_id is not None:
        try:
            node.read(
                lambda api: api.get(f"/v1/recurring/{segment(rule_id)}"),
                lambda state: state.show_recurring(rule_id, wanted.now),
            )
        except Failure as error:
            if error.exit_code != NOT_FOUND:
                raise
            click.echo(f"there is no recurring action {rule_id!r} on this node", err=True)
    if kind is not None and not node.down:
        known = {one["kind"] for one in node.ask(lambda api: api.get("/v1/kinds"))["kinds"]}
        if kind not in known:
            click.echo(f"there is no kind {kind!r} on this node; see agentctl kinds", err=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is listed. Of each view at most `limit`, followed page by page."""

    status: str | None
    kind: str | None
    recurring: str | None
    since: datetime | None
    until: datetime | None
    labels: Mapping[str, str]
    phase: str | None
    limit: int | None
    now: datetime

    def from_api(self, view: str) -> Callable[[ApiClient], tuple[list[dict[str, Any]], bool]]:
        """From a running agentd: the actions, and whether there are more."""
        from agent.domain.instants import maybe_format  # noqa: PLC0415

        query: dict[str, Any] = {
            "view": view, "status": self.status, "kind": self.kind, "recurring": self.recurring,
            "since": maybe_format(self.since), "until": maybe_format(self.until),
        }  # fmt: skip
        return lambda api: self._follow(
            lambda limit, after: api.get("/v1/actions", limit=limit, after=after, **query)
        )

    def from_state(self, view: str) -> Callable[[OfflineState], tuple[list[dict[str, Any]], bool]]:
        """The same from the database of an agentd that is down."""
        return lambda state: self._follow(
            lambda limit, after: state.page(
                self.now, view=view, status=(self.status,) if self.status else (),
                kind=self.kind, recurring=self.recurring, since=self.since, until=self.until,
                limit=limit, after=after,
            )
        )  # fmt: skip

    def _follow(
        self, ask: Callable[[int, str | None], dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], bool]:
        actions: list[dict[str, Any]] = []
        after = None
        while self.limit is None or len(actions) < self.limit:
            filters_here = bool(self.labels or self.phase)
            whole = self.limit is None or filters_here
            page = ask(PAGE if whole else min(PAGE, self.limit - len(actions)), after)  # type: ignore[operator]
            actions += self._fitting(page["actions"])
            after = page["next"]
            if after is None:
                break
        more = after is not None or (self.limit is not None and len(actions) > self.limit)
        return actions[: self.limit], more

    def _fitting(self, actions: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for action in actions:
            labels = action.get("labels") or {}
            if self.phase is not None and action["phase"] != self.phase:
                continue
            if all(labels.get(key) == value for key, value in self.labels.items()):
                yield action


def _read(given: dict[str, Any], now: datetime) -> Wanted:
    """Raises `UsageError` with all faults."""
    from agent.domain.phase import Phase  # noqa: PLC0415

    read = Reading(given, now)
    labels = read.labels("--label", "labels") or {}
    since = read.value("--since", "since", lambda text: _instant(text, now))
    until = read.value("--until", "until", lambda text: _instant(text, now))
    phase = given["phase"] and given["phase"].upper()
    if phase is not None and phase not in Phase.__members__:
        read.faults.append(f"--phase: {given['phase']!r} is not one of {', '.join(Phase)}")
    read.finish()
    return Wanted(
        status=given["status"], kind=given["kind"], recurring=given["recurring"], since=since,
        until=until, labels=labels, phase=phase, now=now,
        limit=None if given["everything"] else given["limit"],
    )  # fmt: skip


def _instant(text: str, now: datetime) -> datetime:
    """As everywhere, and `-2h` for what has been."""
    if text.startswith(_AGO):
        return now - (read_when("+" + text[len(_AGO) :], now) - now)
    return read_when(text, now)


def _row(action: dict[str, Any], now: datetime) -> list[str]:
    code = action["exit_code"]
    return [
        action["id"],
        action["kind"],
        action["phase"],
        action["reason"] or "-",
        str(action["attempt"] or "-"),
        "-" if code is None else str(code),
        when(action, now),
    ]


def when(action: Mapping[str, Any], now: datetime) -> str:
    """The instant that matters of it, seen from now."""
    if action["ended_at"] and action["execution_status"] not in ("NULL", "STARTED"):
        return f"ended {relative(action['ended_at'], now)}"
    if action["execution_status"] == "STARTED":
        return f"started {relative(action['started_at'], now)}"
    return f"due {relative(action['due_at'], now)}"
