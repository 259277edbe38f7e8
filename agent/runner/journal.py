"""The runner's own log: one JSON line per event on stderr. Few, nothing secret, never payloads.

Writing must never stop the loop: if nobody reads stderr, lines are dropped and counted.
"""

import json
import os
import select
import time

_STDERR = 2


class Journal:
    """Writes events; drops them, counted, when the reader of stderr does not keep up."""

    def __init__(self, fd: int = _STDERR) -> None:
        self._fd = fd
        self._dropped = 0

    def write(self, event: str, **fields: object) -> None:
        """Write one event. Never raises, never blocks."""
        entry: dict[str, object] = {"time": round(time.time(), 3), "event": event, **fields}
        if self._dropped:
            entry["dropped_before"] = self._dropped
        line = json.dumps(entry, default=str)[:4_000] + "\n"
        try:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            ready = poll.poll(0)
            if not ready or not ready[0][1] & select.POLLOUT:
                self._dropped += 1
                return
            os.write(self._fd, line.encode())
        except OSError:
            self._dropped += 1
            return
        self._dropped = 0
