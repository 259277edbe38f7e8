"""Keeps one stream's bytes under a cap: a head, and two alternating tail segments.

A script never waits for a disk: what cannot be written is counted and dropped. Files are made
when the first byte arrives, and named by the offset of their first byte, so that after any crash
the files alone say which bytes they hold.
"""

from __future__ import annotations

import os
import time

from agent.runner import names
from agent.runner.limits import OUTPUT_CAP_BYTES, OUTPUT_RETRY_S, TAIL_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.runner.names import Key

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
_TAILS = 2


class Segment:
    """A file with `size` bytes of the stream, from `start`; room for `room` in all."""

    __slots__ = ("room", "size", "start")

    def __init__(self, start: int, room: int) -> None:
        self.start = start
        self.room = room
        self.size = 0


class OutputKeeper:
    """One stream of one run."""

    __slots__ = (
        "_cap", "_dir_fd", "_fd", "_key", "_retry_at", "_stream", "segments", "tail", "total",
    )  # fmt: skip

    def __init__(
        self, dir_fd: int, key: Key, stream: str, cap_bytes: int = OUTPUT_CAP_BYTES
    ) -> None:
        self._dir_fd = dir_fd
        self._key = key
        self._stream = stream
        self._cap = cap_bytes
        self._fd = -1
        self._retry_at = 0.0
        self.total = 0  # bytes that the script wrote
        self.segments: list[Segment] = []
        self.tail = b""

    @property
    def kept_bytes(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self.segments)

    def add(self, data: bytes) -> None:
        """Take what the script wrote. Never raises, never blocks on anything but the disk."""
        keep_from = max(0, TAIL_BYTES - len(data))
        self.tail = (self.tail[-keep_from:] if keep_from else b"") + data[-TAIL_BYTES:]
        offset = self.total
        self.total += len(data)
        if self._retry_at:
            if time.monotonic() < self._retry_at:
                return
            self._retry_at = 0.0
        try:
            self._write(memoryview(data), offset)
        except OSError:  # full, or worse: the script must not notice
            self._retry_at = time.monotonic() + OUTPUT_RETRY_S
            self.close()

    def close(self) -> None:
        """No more bytes for the current segment."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: memoryview, offset: int) -> None:
        while data:
            if self._fd < 0 or self.segments[-1].size >= self.segments[-1].room:
                self._open_segment(offset)
            segment = self.segments[-1]
            written = os.write(self._fd, data[: segment.room - segment.size])
            segment.size += written
            offset += written
            data = data[written:]

    def _open_segment(self, offset: int) -> None:
        """The head while there is none; then a tail segment, in place of the second to last."""
        self.close()
        if self.segments and self.segments[-1].size == 0:  # a full disk left it empty
            self._remove(self.segments.pop())
        has_head = bool(self.segments) and self.segments[0].start == 0
        tails = self.segments[1:] if has_head else self.segments
        if len(tails) >= _TAILS:
            self._remove(tails[0])
            self.segments.remove(tails[0])
        room = self._cap // 2 if offset == 0 else self._cap // 4
        name = names.output_name(self._key, self._stream, offset)
        self._fd = os.open(name, _CREATE, 0o600, dir_fd=self._dir_fd)
        self.segments.append(Segment(offset, room))

    def _remove(self, segment: Segment) -> None:
        name = names.output_name(self._key, self._stream, segment.start)
        try:
            os.unlink(name, dir_fd=self._dir_fd)
        except FileNotFoundError:
            return
