"""The state directory, read while the daemon is down: what `agentctl` may see of it.

The one module of `agent.node` that the commands import, so it is quick: nothing here loads
asyncio, the web server or sqlite-utils. The daemon's lock is respected: readers hold a shared one
for as long as they look, and the database is never opened beside a running daemon.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.domain.errors import AgentError
from agent.domain.instants import maybe_format
from agent.node.lock import lock_shared, owner_of
from agent.node.store import actions
from agent.node.store.backup import list_backups
from agent.node.store.connection import open_for_reading
from agent.node.store.meta import read_meta
from agent.node.store.pages import Query, page
from agent.node.stored import read_stored, stored_view
from agent.node.views import action_view, find, history_view, summary_view

DATABASE_FILE = "agent.db"
RUNNER_LOCK = Path("runs", "runner.lock")


class NotReadable(AgentError):
    """There is nothing here that could be read; the message says why and what to do."""


class DaemonHolds(AgentError):
    """A daemon has the directory: it starts, or hangs, or serves another socket."""


class OfflineState:
    """One look at the database. Every answer has the shape of the API's."""

    def __init__(self, connection: sqlite3.Connection, state_dir: Path) -> None:
        self._connection = connection
        self._state_dir = state_dir
        self._paused = bool(read_meta(connection).paused)

    def status(self, now: datetime, version: str) -> dict[str, Any]:
        """As `GET /v1/status`; what only a running daemon knows is null or empty."""
        stored = read_stored(self._connection, now)
        outbox = stored.newest_seq - stored.meta.acked_seq if stored.meta.enrolled else 0
        runner = running_pid(self._state_dir / RUNNER_LOCK)
        return stored_view(stored) | {
            "daemon": "down",
            "version": version,
            "pid": None,
            "started_at": None,
            "uptime_s": None,
            "running": [
                {
                    "id": action.definition.id,
                    "kind": action.definition.kind,
                    "attempt": action.attempt,
                    "started_at": maybe_format(action.started_at),
                    "stopping": action.stop_cause,
                    "progress": None,
                }
                for action in actions.started(self._connection)
            ],
            "store_problem": None,
            "backup": _backup_view(self._state_dir),
            "core": {
                "url": None,
                "enrolled": bool(stored.meta.enrolled),
                "connected": False,
                "last_pull_at": None,
                "outbox": outbox,
                "fenced": False,
                "polling": False,
                "problem": "agentd is down",
            },
            "runner": {
                "connected": False,
                "pid": runner,
                "version": None,
                "problem": "agentd is down",
            },
        }

    def page(self, now: datetime, **query: Any) -> dict[str, Any]:
        """As `GET /v1/actions`; `query` has the members of `Query`."""
        found = page(self._connection, Query(**query))
        summaries = [summary_view(action, now, paused=self._paused) for action in found.actions]
        return {"actions": summaries, "next": found.next}

    def show(self, action_id: str, now: datetime) -> dict[str, Any]:
        """As `GET /v1/actions/{id}`. Raises `NotFound`."""
        return action_view(find(self._connection, action_id), now, paused=self._paused)

    def recurring(self, now: datetime, after: str | None, limit: int) -> dict[str, Any]:
        """As `GET /v1/recurring`."""
        from agent.node.recurring_views import page_view, place_of  # noqa: PLC0415  (see `why`)

        place = place_of(read_meta(self._connection))
        return page_view(self._connection, place, now, after=after, limit=limit)

    def show_recurring(self, rule_id: str, now: datetime) -> dict[str, Any]:
        """As `GET /v1/recurring/{id}`. Raises `NotFound`."""
        from agent.node import recurring_views as views  # noqa: PLC0415  (see `why`)

        place = views.place_of(read_meta(self._connection))
        rule = views.find(self._connection, rule_id)
        return views.rule_view(self._connection, rule, place, now)

    def history(self, action_id: str) -> dict[str, Any]:
        """As `GET /v1/actions/{id}/history`. Raises `NotFound`."""
        return history_view(self._connection, action_id)

    def why(self, action_id: str, now: datetime) -> dict[str, Any]:
        """As `GET /v1/actions/{id}/why`, without what only a daemon knows. Raises `NotFound`."""
        from agent.node.recurring_views import place_of  # noqa: PLC0415  (schedules load slowly)
        from agent.node.why import Look, explain  # noqa: PLC0415

        look = Look(now=now, place=place_of(read_meta(self._connection)))
        return explain(self._connection, action_id, look)


@contextmanager
def open_state(state_dir: Path) -> Iterator[OfflineState]:
    """The state of a daemon that is down. Raises `NotReadable` or `DaemonHolds`."""
    with _locked(state_dir):
        database = state_dir / DATABASE_FILE
        if not database.exists():
            raise NotReadable(f"{state_dir} has no {DATABASE_FILE}: agentd never ran to its end")
        try:
            with closing(open_for_reading(database)) as connection:
                yield OfflineState(connection, state_dir)
        except sqlite3.Error as error:
            raise NotReadable(
                f"{database} cannot be read: {error}; start agentd, which repairs and upgrades it"
            ) from None


@contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    try:
        descriptor = lock_shared(state_dir)
    except FileNotFoundError:
        if not state_dir.is_dir():
            raise NotReadable(
                f"there is no state directory {state_dir}; "
                "name it with --state-dir DIR or AGENT_STATE_DIR"
            ) from None
        raise NotReadable(
            f"{state_dir} is not agentd's state directory, or agentd never started on it"
        ) from None
    except PermissionError:
        raise NotReadable(
            f"no permission to read {state_dir}; be root or the agent's user, as with sudo"
        ) from None
    except OSError as error:
        raise NotReadable(f"{state_dir} cannot be read: {error.strerror}") from None
    if descriptor is None:
        owner = owner_of(state_dir)
        raise DaemonHolds(f"agentd{f' (pid {owner})' if owner else ''} has locked {state_dir}")
    try:
        yield
    finally:
        os.close(descriptor)


def _backup_view(state_dir: Path) -> dict[str, Any]:
    newest = next(iter(list_backups(state_dir)), None)
    return {
        "last_verified_at": None if newest is None else maybe_format(newest.made_at),
        "file": None if newest is None else newest.path.name,
        "problem": None,
    }


def running_pid(lock_file: Path) -> int | None:
    """The runner that a lock file names, if it still runs."""
    try:
        pid = int(lock_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"agent.runner" in command or b"agent-runner" in command else None
