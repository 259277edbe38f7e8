"""Reads kept output: which bytes an offset names is decided purely, then read from one file."""

from __future__ import annotations

import os
from typing import NamedTuple

from agent.runner import names
from agent.runner.order import decode_pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.runner.names import Key

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class Extent(NamedTuple):
    """Bytes `start` to `start + size` of a stream are in the file named by `start`."""

    start: int
    size: int


def find_extent(extents: Sequence[Extent], offset: int) -> Extent | None:
    """The first extent that holds `offset` or lies behind it. Extents are ascending."""
    for extent in extents:
        if offset < extent.start + extent.size:
            return extent
    return None


def read_piece(
    dir_fd: int, key: Key, stream: str, extents: Sequence[Extent], offset: int, limit: int
) -> tuple[int, bytes, bool]:
    """(offset, data, whether nothing kept follows). The offset jumps past a gap."""
    extent = find_extent(extents, offset)
    if extent is None:
        return offset, b"", True
    offset = max(offset, extent.start)
    inside = offset - extent.start
    size = min(limit, extent.size - inside)
    try:
        fd = os.open(names.output_name(key, stream, extent.start), _OPEN, dir_fd=dir_fd)
    except FileNotFoundError:  # removed by hand: treat it as a gap
        behind = [other for other in extents if other.start > extent.start]
        end = extent.start + extent.size
        return read_piece(dir_fd, key, stream, behind, end, limit)
    try:
        data = os.pread(fd, size, inside)
    finally:
        os.close(fd)
    end = offset + len(data)
    return offset, data, find_extent(extents, end) is None


def read_both(
    dir_fd: int,
    key: Key,
    extents: dict[str, list[Extent]],
    totals: dict[str, int],
    offset: int,
    limit: int,
) -> tuple[int, bytes, bool]:
    """As `read_piece`, of both streams in the order in which they were read.

    Offsets count the bytes of both together. Data ends at a gap: the next call jumps past it.
    """
    parts = _read_marks(dir_fd, key, extents.get(names.MARKS, []))
    first, data = offset, b""
    for piece in decode_pieces(parts, totals):
        at = max(first + len(data), piece.start)
        while at < piece.end and len(data) < limit:
            inside = piece.offset + at - piece.start
            room = min(limit - len(data), piece.end - at)
            found, some, _ = read_piece(
                dir_fd, key, piece.stream, extents[piece.stream], inside, room
            )
            found_at = at + found - inside
            if not some or found_at >= piece.end:
                break  # the rest of this piece was dropped
            if not data:
                first = found_at
            elif found_at != first + len(data):
                return first, data, False
            data += some[: piece.end - found_at]
            at = found_at + len(some)
        if len(data) >= limit:
            return first, data, False
    return first, data, True


def _read_marks(dir_fd: int, key: Key, extents: Sequence[Extent]) -> list[bytes]:
    """The kept marks; those without a hole between them together."""
    parts: list[bytes] = []
    end = -1
    for extent in extents:
        try:
            fd = os.open(names.output_name(key, names.MARKS, extent.start), _OPEN, dir_fd=dir_fd)
        except FileNotFoundError:
            continue
        try:
            data = os.pread(fd, extent.size, 0)
        finally:
            os.close(fd)
        if parts and extent.start == end:
            parts[-1] += data
        else:
            parts.append(data)
        end = extent.start + len(data)
    return parts


def extents_on_disk(
    dir_fd: int, key: Key, found: Sequence[tuple[str, int]]
) -> dict[str, list[Extent]]:
    """What the files themselves say, for a run without an exit record."""
    extents: dict[str, list[Extent]] = {"stdout": [], "stderr": [], names.MARKS: []}
    for stream, start in found:
        try:
            size = os.stat(names.output_name(key, stream, start), dir_fd=dir_fd).st_size
        except FileNotFoundError:
            continue
        extents[stream].append(Extent(start, size))
    return extents
