"""In which order stdout and stderr were read: a mark at every change from one to the other.

A mark is 16 bytes: where in both together the piece begins and of which stream it is, and where in
that stream. Kept like output (head and tail under a cap, files named by offset), so that a script
that alternates for ever costs no more than one that does not. A script that writes to one stream
only leaves no marks: there is no order to keep.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from agent.runner.limits import MARKS_CAP_BYTES
from agent.runner.names import MARKS, STREAMS
from agent.runner.output import OutputKeeper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.runner.names import Key

_MARK = struct.Struct("<QQ")
MARK_BYTES = _MARK.size


class Piece(NamedTuple):
    """Bytes `start` to `end` of both together are those of `stream` from `offset`."""

    start: int
    end: int
    stream: str
    offset: int


class OrderKeeper:
    """Notes the order of one run's output."""

    __slots__ = ("_first", "_last", "_total", "kept")

    def __init__(self, dir_fd: int, key: Key, cap_bytes: int = MARKS_CAP_BYTES) -> None:
        self.kept = OutputKeeper(dir_fd, key, MARKS, cap_bytes)
        self._first: str | None = None  # the only stream so far, of which no mark is written
        self._last: str | None = None
        self._total = 0

    def note(self, stream: str, offset: int, size: int) -> None:
        """`size` bytes of `stream` came, the first being its byte number `offset`."""
        if self._last is None:
            self._first = self._last = stream
        elif stream != self._last:
            if self._first is not None:
                self.kept.add(encode_mark(0, self._first, 0))
                self._first = None
            self.kept.add(encode_mark(self._total, stream, offset))
            self._last = stream
        self._total += size

    def close(self) -> None:
        """No more marks."""
        self.kept.close()


def encode_mark(start: int, stream: str, offset: int) -> bytes:
    """One mark."""
    return _MARK.pack(start << 1 | STREAMS.index(stream), offset)


def decode_pieces(parts: Iterable[bytes], totals: dict[str, int]) -> Iterator[Piece]:
    """The pieces that the kept parts of the marks tell of, ascending. Pure.

    Where marks are missing between two parts, the last piece before the hole has no known end: it
    is left out. Without any marks everything is of the one stream that has bytes.
    """
    total = sum(totals.values())
    decoded = [[*_MARK.iter_unpack(part[: len(part) // MARK_BYTES * MARK_BYTES])] for part in parts]
    if not any(decoded):
        stream = next((name for name, size in totals.items() if size), STREAMS[0])
        yield Piece(0, total, stream, 0)
        return
    for number, marks in enumerate(decoded):
        ends = [mark[0] >> 1 for mark in marks[1:]]
        if number == len(decoded) - 1:
            ends.append(total)
        for (word, offset), end in zip(marks, ends, strict=False):
            yield Piece(word >> 1, end, STREAMS[word & 1], offset)
