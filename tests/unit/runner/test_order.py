"""The order of stdout and stderr: kept in marks, told again from what is kept of them."""

from __future__ import annotations

import os
from pathlib import Path

from agent.runner.names import BOTH, MARKS, Key
from agent.runner.order import MARK_BYTES, OrderKeeper, Piece, decode_pieces, encode_mark
from agent.runner.output import OutputKeeper
from agent.runner.output_reading import Extent, read_both

KEY = Key(3, 1)


class Kept:
    """One run's output, as the runner keeps it."""

    def __init__(self, path: Path, cap: int = 1 << 20, marks: int = 1 << 16) -> None:
        self.fd = os.open(path, os.O_RDONLY)
        self.streams = {
            name: OutputKeeper(self.fd, KEY, name, cap) for name in ("stdout", "stderr")
        }
        self.order = OrderKeeper(self.fd, KEY, marks)

    def write(self, stream: str, data: bytes) -> None:
        self.order.note(stream, self.streams[stream].total, len(data))
        self.streams[stream].add(data)

    def read(self, offset: int, limit: int = 65_536) -> tuple[int, bytes, bool]:
        kept = {**self.streams, MARKS: self.order.kept}
        extents = {
            name: [Extent(part.start, part.size) for part in one.segments]
            for name, one in kept.items()
        }
        totals = {name: one.total for name, one in self.streams.items()}
        return read_both(self.fd, KEY, extents, totals, offset, limit)


def test_both_are_told_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    for stream, data in [
        ("stdout", b"1\n"),
        ("stdout", b"2\n"),
        ("stderr", b"oh\n"),
        ("stdout", b"3\n"),
    ]:
        kept.write(stream, data)
    assert kept.read(0) == (0, b"1\n2\noh\n3\n", True)
    assert kept.read(5) == (5, b"h\n3\n", True)
    assert kept.read(0, limit=3) == (0, b"1\n2", False)
    assert kept.read(9) == (9, b"", True)
    assert BOTH not in kept.streams


def test_one_stream_needs_no_marks(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.write("stderr", b"only this")
    assert kept.order.kept.total == 0
    assert kept.read(0) == (0, b"only this", True)
    assert kept.read(5) == (5, b"this", True)


def test_nothing_written_reads_as_nothing(tmp_path: Path) -> None:
    assert Kept(tmp_path).read(0) == (0, b"", True)


def test_a_dropped_middle_is_jumped_over(tmp_path: Path) -> None:
    """Each stream keeps head and tail; what is left of both is told, in order, with its offset."""
    kept = Kept(tmp_path, cap=64)
    whole = b""
    for number in range(100):
        stream = ("stdout", "stderr")[number % 2]
        data = f"{number:03}{stream[3]}\n".encode()
        kept.write(stream, data)
        whole += data
    told, offset = [], 0
    while True:
        at, data, is_last = kept.read(offset)
        assert whole[at : at + len(data)] == data, "an offset counts what both wrote"
        assert at >= offset
        told.append((at, data))
        if is_last:
            break
        offset = at + len(data)
    text = b"".join(data for _, data in told)
    assert text.startswith(whole[:60])
    assert text.endswith(whole[-40:])
    assert len(text) <= 128


def test_marks_are_bounded_and_what_follows_the_hole_is_told(tmp_path: Path) -> None:
    kept = Kept(tmp_path, marks=16 * MARK_BYTES)
    whole = b""
    for number in range(1_000):
        data = b"%06d\n" % number
        kept.write(("stdout", "stderr")[number % 2], data)
        whole += data
    assert kept.order.kept.kept_bytes <= 16 * MARK_BYTES
    _, head, _ = kept.read(0)
    assert head == whole[: len(head)]
    assert len(head) >= 6 * 7
    at, tail, _ = kept.read(len(whole) - 14)
    assert whole[at:] == tail


def test_pieces_without_a_known_end_are_left_out() -> None:
    head = encode_mark(0, "stdout", 0) + encode_mark(10, "stderr", 0)
    tail = encode_mark(90, "stdout", 50)
    pieces = list(decode_pieces([head, tail], {"stdout": 60, "stderr": 40}))
    assert pieces == [Piece(0, 10, "stdout", 0), Piece(90, 100, "stdout", 50)]


def test_a_torn_mark_is_no_mark() -> None:
    torn = encode_mark(0, "stdout", 0) + encode_mark(4, "stderr", 0) + b"torn"
    pieces = list(decode_pieces([torn], {"stdout": 4, "stderr": 2}))
    assert pieces == [Piece(0, 4, "stdout", 0), Piece(4, 6, "stderr", 0)]
