"""What `agentctl status` answers: the whole node at a glance."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from agent.domain.instants import format_instant, maybe_format
from agent.infra.clock import Clock
from agent.node.backups import Backups
from agent.node.engine import Engine
from agent.node.hands import Hands
from agent.node.ports import Progress
from agent.node.stored import Stored, stored_view
from agent.node.sync.state import SyncState
from agent.node.views import progress_view


class Status:
    """The daemon's status, put together on request."""

    def __init__(
        self, *, engine: Engine, hands: Hands, sync: SyncState, clock: Clock, version: str,
        backups: Backups, labels: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._backups = backups
        self._labels = dict(labels)
        self._engine = engine
        self._hands = hands
        self._sync = sync
        self._clock = clock
        self._version = version
        self._started_at = clock.now()
        self._started_s = clock.monotonic()

    def view(self, stored: Stored, progress: Mapping[int, Progress]) -> dict[str, Any]:
        """All of it; `progress` by row, of those scripts that told any."""
        return stored_view(stored) | {
            "daemon": "running",
            "version": self._version,
            "labels": self._labels,
            "pid": os.getpid(),
            "started_at": format_instant(self._started_at),
            "uptime_s": round(self._clock.monotonic() - self._started_s, 3),
            "running": [
                {
                    "id": action.definition.id,
                    "kind": action.definition.kind,
                    "attempt": action.attempt,
                    "started_at": maybe_format(action.started_at),
                    "stopping": action.stop_cause,
                    "progress": progress_view(progress.get(action.row)),
                }
                for action in self._engine.running.values()
            ],
            "clock": {"now": format_instant(self._clock.now())} | self._engine.clock_watch.view(),
            "store_problem": self._engine.store_problem,
            "backup": self._backups.view(),
            "core": self._core(stored),
            "runner": self._runner(),
        }

    def _core(self, stored: Stored) -> dict[str, Any]:
        sync = self._sync
        outbox = stored.newest_seq - stored.meta.acked_seq if stored.meta.enrolled else 0
        return {
            "url": sync.url,
            "enrolled": bool(stored.meta.enrolled),
            "connected": sync.connected,
            "last_pull_at": maybe_format(sync.last_pull_at),
            "outbox": outbox,
            "fenced": sync.fenced,
            "polling": sync.polling,
            "problem": sync.problem or sync.push_problem,
        }

    def _runner(self) -> dict[str, Any]:
        hello = self._hands.hello
        return {
            "connected": hello is not None,
            "pid": hello.pid if hello else None,
            "version": hello.version if hello else None,
            "problem": self._hands.problem,
            "scripts_dir": hello.scripts_dir if hello else None,
            "containment": hello.containment if hello else None,
            "controllers": list(hello.controllers) if hello else [],
            "survivors": self._hands.survivors,
        }
