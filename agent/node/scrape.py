"""What `/metrics` measures when it is asked: the state as gauges, beside the counters.

One short read of the database and a few system calls; nothing is kept between two scrapes.
"""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from agent.domain.instants import to_us
from agent.infra.clock import Clock
from agent.infra.prometheus import COUNTER, GAUGE, Family, Sample
from agent.node import metric_names as names
from agent.node.engine import Engine
from agent.node.hands import Hands
from agent.node.store import brakes
from agent.node.stored import Stored, count_rules, read_stored
from agent.node.sync.state import SyncState


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraped:
    """What the database says at the moment of a scrape."""

    stored: Stored
    brakes: int
    recurring: Mapping[str, int]


def read_scraped(connection: sqlite3.Connection, now: datetime) -> Scraped:
    """The database's part, in a few index look-ups."""
    return Scraped(
        stored=read_stored(connection, now),
        brakes=len(brakes.active(connection, now)),
        recurring=count_rules(connection),
    )


class Scrape:
    """Puts all families together."""

    def __init__(
        self, *, engine: Engine, hands: Hands, sync: SyncState, clock: Clock, database: Path,
        version: str, backup_at: Callable[[], datetime | None],
        clock_doubt: Callable[[], str | None],
    ) -> None:  # fmt: skip
        self._engine = engine
        self._hands = hands
        self._sync = sync
        self._database = database
        self._version = version
        self._backup_at = backup_at
        self._clock_doubt = clock_doubt
        self._started_at = clock.now()

    def families(self, scraped: Scraped) -> list[Family]:
        """Counters first, then the state, then the process."""
        return [
            *self._engine.metrics.families(),
            *self._actions(scraped),
            *self._outside(scraped),
            *self._process(),
        ]

    def _actions(self, scraped: Scraped) -> Iterable[Family]:
        stored = scraped.stored
        future = stored.counts["NULL"] - stored.due
        yield _gauge(names.RUNNING, "Scripts that run now.", len(self._engine.running))
        yield _by(names.ACTIONS, "Actions kept here by status.", "status", stored.counts)
        yield _gauge(names.QUEUE_DUE, "Due actions that wait, at most 100000.", stored.due)
        yield _gauge(names.QUEUE_FUTURE, "Actions that are not due yet.", future)
        yield _by(names.RECURRING, "Recurring actions by state.", "state", scraped.recurring)
        yield _gauge(names.PAUSED, "1 while nothing starts.", bool(stored.meta.paused))
        yield _gauge(names.BRAKES, "Brakes that hold something.", scraped.brakes)
        yield _gauge(names.REFUSED, "Refused definitions remembered.", stored.refused)
        yield _gauge(names.NEWEST_EVENT, "Number of the newest event.", stored.newest_seq)

    def _outside(self, scraped: Scraped) -> Iterable[Family]:
        sync, meta = self._sync, scraped.stored.meta
        outbox = scraped.stored.newest_seq - meta.acked_seq if meta.enrolled else 0
        failing, doubt = self._engine.store_problem, self._clock_doubt()
        yield _gauge(names.OUTBOX, "Events that the core has not acknowledged.", outbox)
        yield _gauge(names.CORE_CONNECTED, "1 while the core answers.", sync.connected)
        yield _gauge(names.CORE_FENCED, "1 when another agentd took over.", sync.fenced)
        yield _instant(names.LAST_PULL, "The last pull that went well.", sync.last_pull_at)
        yield _instant(names.LAST_PUSH, "The last push that went well.", sync.last_push_at)
        connected = self._hands.hello is not None
        yield _gauge(names.RUNNER_CONNECTED, "1 while the runner answers.", connected)
        yield _gauge(names.DATABASE_BYTES, "agent.db and its log.", _size(self._database))
        yield _gauge(names.STORE_FAILING, "1 while nothing can commit.", failing is not None)
        yield _gauge(names.CLOCK_DOUBTFUL, "1 while the clock is not believed.", doubt is not None)
        yield _instant(names.BACKUP, "The last verified backup.", self._backup_at())

    def _process(self) -> Iterable[Family]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        fds_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        fds = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (names only, no paths)
        build = Sample(1, {"version": self._version})
        yield Family(names.BUILD_INFO, GAUGE, "Always 1; the label tells the version.", [build])
        yield _instant(names.START_TIME, "When this agentd began.", self._started_at)
        yield _gauge(names.RESIDENT_MEMORY, "Memory of agentd.", _resident_bytes())
        yield _gauge(names.OPEN_FDS, "Open file descriptors.", fds)
        yield _gauge(names.MAX_FDS, "How many there may be.", fds_max)
        cpu = Sample(usage.ru_utime + usage.ru_stime)
        yield Family(names.CPU_SECONDS, COUNTER, "Processor time of agentd.", [cpu])


def _gauge(name: str, help_text: str, value: float) -> Family:
    return Family(name, GAUGE, help_text, [Sample(value)])


def _by(name: str, help_text: str, label: str, values: Mapping[str, int]) -> Family:
    samples = [Sample(number, {label: key}) for key, number in sorted(values.items())]
    return Family(name, GAUGE, help_text, samples)


def _instant(name: str, help_text: str, moment: datetime | None) -> Family:
    """Unix seconds; no sample where it never happened, so that an alert on its age is no lie."""
    samples = [] if moment is None else [Sample(to_us(moment) / 1_000_000)]
    return Family(name, GAUGE, help_text, samples)


def _size(database: Path) -> int:
    total = 0
    for suffix in ("", "-wal"):
        path = database.with_name(database.name + suffix)
        total += path.stat().st_size if path.exists() else 0
    return total


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
