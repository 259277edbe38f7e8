"""Bounds what all runs' outputs take on disk together: the oldest go first, their records stay.

The sum only grows until it is counted anew (what is forgotten is not subtracted). Only when it
passes the bound the directory is looked through, a piece per turn of the loop, so that a directory
of a hundred thousand files holds up nobody.
"""

from __future__ import annotations

import heapq
import os

from agent.runner import names
from agent.runner.limits import OUTPUTS_KEEP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.runner.journal import Journal
    from agent.runner.ledger import Ledger
    from agent.runner.loop import Loop
    from agent.runner.names import Key

_FILES_PER_TURN = 500
_OLDEST_MAX = 2_000  # candidates of one look; if they do not suffice, it is looked again
_FIRST_LOOK_S = 10.0  # after the start, when whoever waits for us has been served


class OutputBudget:
    """The sum of all outputs, and its bound."""

    def __init__(
        self,
        loop: Loop,
        ledger: Ledger,
        journal: Journal,
        bytes_max: int,
        is_busy: Callable[[Key], bool],
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._journal = journal
        self._bytes_max = bytes_max
        self._is_busy = is_busy  # whether the run still writes
        self._walk: Iterator[os.DirEntry[str]] | None = None
        self._oldest: list[tuple[float, Key, str, int]] = []  # a heap, the youngest first
        self._counted = 0
        self.total = 0
        loop.call_in(_FIRST_LOOK_S, self._look)

    def add(self, size: int) -> None:
        """So much more is kept."""
        self.total += size
        if self.total > self._bytes_max:
            self._look()

    def _look(self) -> None:
        if self._walk is None:
            self._walk = os.scandir(self._ledger.fd)
            self._counted, self._oldest = 0, []
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        assert self._walk is not None
        for _ in range(_FILES_PER_TURN):
            entry = next(self._walk, None)
            if entry is None:
                self._walk = None
                self._looked()
                return
            segment = names.segment_of(entry.name)
            if segment is not None:
                self._count(segment, entry)
        self._loop.call_soon(self._go_on)

    def _count(self, segment: tuple[Key, str, int], entry: os.DirEntry[str]) -> None:
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:  # forgotten meanwhile
            return
        self._counted += found.st_size
        if self._is_busy(segment[0]):
            return
        item = (-found.st_mtime, segment[0], entry.name, found.st_size)
        if len(self._oldest) < _OLDEST_MAX:
            heapq.heappush(self._oldest, item)
        elif item > self._oldest[0]:
            heapq.heapreplace(self._oldest, item)

    def _looked(self) -> None:
        self.total = self._counted
        if self.total <= self._bytes_max:
            self._oldest = []
            return
        keep = int(self._bytes_max * OUTPUTS_KEEP)
        removed = 0
        for _, key, name, size in sorted(self._oldest, reverse=True):
            if self.total <= keep:
                break
            if self._is_busy(key):
                continue
            try:
                os.unlink(name, dir_fd=self._ledger.fd)
            except FileNotFoundError:
                continue
            self.total -= size
            removed += 1
        self._oldest = []
        self._journal.write("outputs_pruned", files=removed, left_bytes=self.total)
        if removed and self.total > keep:
            self._look()
