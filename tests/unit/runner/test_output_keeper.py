"""Head and tails for any sequence of writes, and a disk that fails at any of them."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runner.limits import TAIL_BYTES
from agent.runner.names import Key, segment_of
from agent.runner.output import OutputKeeper
from agent.runner.output_reading import Extent, extents_on_disk, find_extent, read_piece

KEY = Key(1, 1)
CAP = 64


def read_back(fd: int, keeper: OutputKeeper) -> list[tuple[int, bytes]]:
    extents = [Extent(segment.start, segment.size) for segment in keeper.segments]
    found, offset, is_last = [], 0, False
    while not is_last:
        offset, data, is_last = read_piece(fd, KEY, "stdout", extents, offset, 7)
        found.append((offset, data))
        offset += len(data)
    return found


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=20))
def test_kept_is_a_head_and_a_tail(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    with tempfile.TemporaryDirectory() as path:
        fd = os.open(path, os.O_RDONLY)
        keeper = OutputKeeper(fd, KEY, "stdout", CAP)
        for chunk in chunks:
            keeper.add(chunk)
        keeper.close()
        assert keeper.total == len(whole)
        assert keeper.tail == whole[-TAIL_BYTES:]
        pieces = read_back(fd, keeper)
        assert all(whole[at : at + len(data)] == data for at, data in pieces)
        kept = sum(len(data) for _, data in pieces)
        assert kept == keeper.kept_bytes <= CAP
        assert kept == len(whole) or kept > CAP * 3 // 4 - 1
        listed = [found[1:] for entry in Path(path).iterdir() if (found := segment_of(entry.name))]
        on_disk = extents_on_disk(fd, KEY, sorted(listed))["stdout"]
        assert on_disk == [Extent(segment.start, segment.size) for segment in keeper.segments]
        os.close(fd)


@given(st.data(), st.lists(st.binary(min_size=1, max_size=50), max_size=20))
def test_a_failing_disk_only_costs_bytes(data: st.DataObject, chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    real, clock = os.write, [0.0]

    def write(fd: int, block: bytes) -> int:
        fate = data.draw(st.sampled_from(["whole", "short", "full"]))
        if fate == "full":
            raise OSError(errno.ENOSPC, "full")
        return real(fd, block if fate == "whole" else block[: max(1, len(block) // 2)])

    def monotonic() -> float:
        clock[0] += data.draw(st.sampled_from([0.0, 2.0]))
        return clock[0]

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as path:
        patch.setattr("agent.runner.output.os.write", write)
        patch.setattr("agent.runner.output.time.monotonic", monotonic)
        fd = os.open(path, os.O_RDONLY)
        keeper = OutputKeeper(fd, KEY, "stdout", CAP)
        for chunk in chunks:
            keeper.add(chunk)
        keeper.close()
        patch.undo()
        assert keeper.total == len(whole)
        assert all(whole[at : at + len(part)] == part for at, part in read_back(fd, keeper))
        assert keeper.kept_bytes <= CAP
        assert sum(entry.stat().st_size for entry in Path(path).iterdir()) == keeper.kept_bytes
        os.close(fd)


def test_extents() -> None:
    extents = [Extent(0, 4), Extent(10, 2)]
    assert find_extent(extents, 3) == Extent(0, 4)
    assert find_extent(extents, 4) == Extent(10, 2)
    assert find_extent(extents, 12) is None
    assert find_extent([], 0) is None
