"""Which results nobody has collected yet, and making those durable.

A result that is collected within a second is in agentd's database, durably; only the others are
worth an fsync.
"""

from __future__ import annotations

import time

from agent.runner.limits import COLLECT_WITHIN_S, SYNC_BUDGET_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.runner.journal import Journal
    from agent.runner.ledger import Ledger
    from agent.runner.loop import Loop, Timer
    from agent.runner.names import Key


class Collecting:
    """Ended runs since this runner started that were not collected."""

    def __init__(self, loop: Loop, ledger: Ledger, journal: Journal) -> None:
        self._loop = loop
        self._ledger = ledger
        self._journal = journal
        self._unsynced: dict[Key, float] = {}  # in the order of their ends
        self._synced: set[Key] = set()
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._unsynced) + len(self._synced)

    def add(self, key: Key) -> None:
        """A result was written."""
        self._unsynced[key] = time.monotonic()
        self._arm()

    def remove(self, key: Key) -> None:
        """It was collected, or forgotten."""
        self._unsynced.pop(key, None)
        self._synced.discard(key)

    def sync_all(self) -> None:
        """Fsync every result that nobody collected; before the runner ends."""
        self._sync(list(self._unsynced), float("inf"))

    def _arm(self) -> None:
        if self._timer is None and self._unsynced:
            oldest = next(iter(self._unsynced.values()))
            delay_s = max(0.0, oldest + COLLECT_WITHIN_S - time.monotonic())
            self._timer = self._loop.call_in(delay_s, self._sync_due)

    def _sync_due(self) -> None:
        self._timer = None
        limit = time.monotonic() - COLLECT_WITHIN_S
        self._sync([key for key, ended in self._unsynced.items() if ended <= limit], SYNC_BUDGET_S)
        self._arm()

    def _sync(self, keys: Iterable[Key], budget_s: float) -> None:
        try:
            done = self._ledger.sync(keys, budget_s)
        except OSError as error:
            self._journal.write("sync_failed", error=error.strerror)
            done = list(keys)  # trying again would report success falsely (fsync(2), errors)
        for key in done:
            if self._unsynced.pop(key, None) is not None:
                self._synced.add(key)
