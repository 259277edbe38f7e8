"""Reads kept output: which bytes an offset names is decided purely, then read from one file."""

from __future__ import annotations

import os
from typing import NamedTuple

from agent.runner import names

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


def extents_on_disk(
    dir_fd: int, key: Key, found: Sequence[tuple[str, int]]
) -> dict[str, list[Extent]]:
    """What the files themselves say, for a run without an exit record."""
    extents: dict[str, list[Extent]] = {"stdout": [], "stderr": []}
    for stream, start in found:
        try:
            size = os.stat(names.output_name(key, stream, start), dir_fd=dir_fd).st_size
        except FileNotFoundError:
            continue
        extents[stream].append(Extent(start, size))
    return extents
