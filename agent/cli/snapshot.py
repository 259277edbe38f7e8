"""One look at a node for those who watch it, and the wait for the next one.

A look is taken when something changed, at most once a second, and else every few seconds for what
no event tells (progress, the core's connection). While agentd is down only its socket is tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from agent.cli.door import Node
from agent.cli.exits import UNREACHABLE, Failure
from agent.domain.instants import format_instant, parse_instant
from agent.version import VERSION

if TYPE_CHECKING:
    from agent.cli.api_client import ApiClient
    from agent.node.offline import OfflineState

SPACING_S = 1.0  # a node that starts a thousand a minute is not asked for each
QUIET_S = 3.0  # for what no event tells
AWAY_AGAIN_S = 1.0
AHEAD = timedelta(days=366)  # so far the next ones are looked for
ROWS_MAX = 20  # of each list: more fit on no screen
_PASSING = frozenset({"unavailable", "busy"})  # refusals that say: again, later
_VOLATILE = frozenset({"uptime_s", "seq", "clock"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is shown. `away_since` is when agentd was seen to go, `problem` what was found then."""

    status: Mapping[str, Any]
    waiting: list[Mapping[str, Any]]
    """Due, and not started yet; oldest first."""
    upcoming: list[Mapping[str, Any]]
    """`id`, `kind`, `starts_at`, `notes`; the next first."""
    ended: list[Mapping[str, Any]]
    """Newest first."""
    away_since: datetime | None = None
    problem: str = ""

    @property
    def is_down(self) -> bool:
        """Whether this is not agentd's own word."""
        return bool(self.status["daemon"] == "down")

    def document(self) -> dict[str, Any]:
        """For programs."""
        away = self.away_since
        return {
            **self.status,
            "down_since": None if away is None else away.isoformat(),
            "problem": self.problem or None,
            "waiting": self.waiting,
            "upcoming": self.upcoming,
            "ended": self.ended,
        }

    def essence(self) -> dict[str, Any]:
        """What must differ for it to be news: not the clocks."""
        told = {key: value for key, value in self.document().items() if key not in _VOLATILE}
        told["core"] = {k: v for k, v in told["core"].items() if k != "last_pull_at"}
        told["clock"] = (self.status.get("clock") or {}).get("state")
        return told


class Watcher:
    """Looks at one node again and again."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._last: Snapshot | None = None
        self._looked_s = 0.0

    def look(self) -> Snapshot:
        """The node as it is now. Raises `Failure` on the first look, or if it is forbidden."""
        now = self._node.now()
        self._node.down = False
        self._looked_s = time.monotonic()
        last = self._last
        try:
            found = self._node.read(_from_api(now), lambda state: _from_state(state, now))
        except Failure as error:
            if last is None or (error.exit_code != UNREACHABLE and error.code not in _PASSING):
                raise
            gone = error.exit_code == UNREACHABLE and error.code not in _PASSING
            away = {"daemon": "down"} if gone else {}
            found = replace(last, status={**last.status, **away}, problem=error.message)
        if found.is_down and last is not None:
            found = replace(found, away_since=last.away_since or now)
        self._last = found
        return found

    def next_look(self) -> Snapshot:
        """The same, once something changed or enough time has passed."""
        last = self._last
        if last is None:
            return self.look()
        if last.is_down:
            self._until_back()
        else:
            self._until_changed(last)
        time.sleep(max(0.0, self._looked_s + SPACING_S - time.monotonic()))
        return self.look()

    def _until_back(self) -> None:
        time.sleep(AWAY_AGAIN_S)
        while not self._node.answers():
            time.sleep(AWAY_AGAIN_S)

    def _until_changed(self, last: Snapshot) -> None:
        wait_s = SPACING_S if last.status["running"] else QUIET_S
        after = last.status["seq"]
        try:
            self._node.ask(
                lambda api: api.get("/v1/events", after=after, limit=1, wait=wait_s, wait_s=wait_s)
            )
        except Failure:
            return  # the look that follows finds out what it is, and says it


def _from_api(now: datetime) -> Callable[[ApiClient], Snapshot]:
    def fetch(api: ApiClient) -> Snapshot:
        status = api.get("/v1/status")
        queue = api.get("/v1/actions", view="queue", status="NULL", limit=ROWS_MAX)
        ended = api.get("/v1/actions", view="finished", limit=ROWS_MAX)
        planned = api.get("/v1/forecast", limit=ROWS_MAX, until=format_instant(now + AHEAD))
        return Snapshot(
            status=status,
            waiting=_due(queue["actions"], now),
            upcoming=[fire for fire in planned["fires"] if parse_instant(fire["starts_at"]) > now],
            ended=ended["actions"],
        )

    return fetch


def _from_state(state: OfflineState, now: datetime) -> Snapshot:
    queue = state.page(now, view="queue", status=("NULL",), limit=ROWS_MAX)["actions"]
    waiting = _due(queue, now)
    later = [action for action in queue if action not in waiting]
    return Snapshot(
        status=state.status(now, VERSION),
        waiting=waiting,
        upcoming=[
            {"id": one["id"], "kind": one["kind"], "starts_at": one["due_at"], "notes": []}
            for one in later
        ],
        ended=state.page(now, view="finished", limit=ROWS_MAX)["actions"],
    )


def _due(actions: list[Mapping[str, Any]], now: datetime) -> list[Mapping[str, Any]]:
    return [one for one in actions if one["due_at"] and parse_instant(one["due_at"]) <= now]
