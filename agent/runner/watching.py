"""Tells when something in the scripts directory changes, by inotify: nothing is asked in between.

The directory above is watched as well, for a scripts directory that is replaced as a whole. What
changed is not looked at: whoever is told asks for the catalogue, whose digest says whether it did.
"""

from __future__ import annotations

import os

from agent.runner import linux
from agent.runner.limits import KINDS_SETTLE_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.runner.journal import Journal
    from agent.runner.loop import Loop, Timer


class Watching:
    """Watches one directory, and calls `on_change` once things have settled."""

    def __init__(
        self, loop: Loop, path: str, journal: Journal, on_change: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._path = path
        self._on_change = on_change
        self._timer: Timer | None = None
        self._above = -1  # the watch on the directory above
        self.is_active = False
        try:
            self._fd = linux.open_inotify()
        except OSError as error:  # too many watchers on this machine: changes show when asked for
            journal.write("kinds_not_watched", error=error.strerror)
            return
        self.is_active = self._watch()
        if not self.is_active:
            journal.write("kinds_not_watched", error=f"{path} is not there")
        loop.watch(self._fd, self._read)

    def _watch(self) -> bool:
        self._above = linux.watch_directory(
            self._fd, os.path.dirname(self._path), linux.NAMES_CHANGE
        )
        return linux.watch_directory(self._fd, self._path, linux.CONTENT_CHANGES) >= 0

    def _read(self, _events: int) -> None:
        try:
            data = os.read(self._fd, 65_536)
        except BlockingIOError:
            return
        if self._timer is None and self._concerns_us(data):
            self._timer = self._loop.call_in(KINDS_SETTLE_S, self._settled)

    def _concerns_us(self, data: bytes) -> bool:
        """The directory above may be a busy one: only our own name there matters."""
        own = os.fsencode(os.path.basename(self._path))
        return any(watch != self._above or name == own for watch, name in linux.parse_inotify(data))

    def _settled(self) -> None:
        self._timer = None
        self.is_active = self._watch()  # again: it may be another directory of the same name now
        self._on_change()
