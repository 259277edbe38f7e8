"""Run files on disk: made once, read, written in place, forgotten. No decision is taken here.

Nothing of a finished run is kept in memory; it is looked up by name when somebody asks.
"""

from __future__ import annotations

import os
import time
from typing import Any

from agent.runner import names, record
from agent.runner.limits import RECORD_FILE_BYTES, RECORDS_PAGE_MAX
from agent.runner.names import Key
from agent.runner.record import RunFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class Ledger:
    """The runs directory. All paths are relative to one descriptor of it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.max_row = 0

    def create(self, key: Key, data: bytes) -> int | None:
        """Make the run file, whole, and return its descriptor; None if there already is one.

        OSError (disk full, no descriptors): then there is no file.
        """
        name = names.run_name(key)
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=self.fd)
        except FileExistsError:
            return None
        try:
            write_at(fd, 0, data)
        except OSError:
            os.close(fd)
            os.unlink(name, dir_fd=self.fd)
            raise
        self.max_row = max(self.max_row, key.row)
        return fd

    def read(self, key: Key) -> RunFile | None:
        """What the run file says, or None if there is none."""
        data = self._read_bytes(names.run_name(key))
        return None if data is None else record.decode_file(data)

    def write_exit(self, key: Key, value: dict[str, Any]) -> None:
        """Write an exit record through a descriptor of its own."""
        fd = os.open(names.run_name(key), os.O_RDWR | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            write_at(fd, record.EXIT.offset, record.encode_slot(record.EXIT, value))
        finally:
            os.close(fd)

    def scan(self) -> Iterator[tuple[Key, RunFile]]:
        """Every run without a result, in no order. Raises `max_row` to the highest seen."""
        with os.scandir(self.fd) as entries:
            keys = [key for entry in entries if (key := names.key_of_run(entry.name)) is not None]
        for key in keys:
            self.max_row = max(self.max_row, key.row)
            data = self._read_bytes(names.run_name(key))
            if data is None or record.has_exit(data):
                continue
            found = record.decode_file(data)
            if not found.is_tombstone:
                yield key, found

    def list_starts(self, after: Key) -> tuple[list[dict[str, Any]], bool]:
        """A page of what was started, by key, behind `after`; whether there is more.

        What only has a tombstone or an unreadable marker tells nothing of a start and is left out.
        """
        found: list[dict[str, Any]] = []
        keys = self._keys_behind(after)
        for position, key in enumerate(keys, 1):
            read = self.read(key)
            marker = read.marker if read is not None else None
            if marker is None or marker.get("state") != record.STATE_START:
                continue
            members = ("row", "start_no", "id", "attempt", "kind", "boot_id")
            found.append({name: marker.get(name) for name in members})
            if len(found) == RECORDS_PAGE_MAX:
                return found, position < len(keys)
        return found, False

    def _keys_behind(self, after: Key) -> list[Key]:
        with os.scandir(self.fd) as entries:
            keys = [key for entry in entries if (key := names.key_of_run(entry.name)) is not None]
        return sorted(key for key in keys if key > after)

    def remove(self, key: Key, segments: Iterable[tuple[str, int]]) -> None:
        """Remove everything of a run; the record last, so that a crash leaves it findable."""
        for stream, offset in segments:
            self._unlink(names.output_name(key, stream, offset))
        self._unlink(names.progress_name(key))
        self._unlink(names.run_name(key))

    def segments(self, wanted: set[Key]) -> dict[Key, list[tuple[str, int]]]:
        """The output segments (stream, offset) of these runs, ascending, from one listing."""
        found: dict[Key, list[tuple[str, int]]] = {key: [] for key in wanted}
        with os.scandir(self.fd) as entries:
            for entry in entries:
                segment = names.segment_of(entry.name)
                if segment is not None and segment[0] in found:
                    found[segment[0]].append(segment[1:])
        for segments in found.values():
            segments.sort()
        return found

    def has_segment(self, key: Key, stream: str, offset: int) -> bool:
        """Whether that output segment is there."""
        return self._exists(names.output_name(key, stream, offset))

    def sync(self, keys: Iterable[Key], budget_s: float) -> list[Key]:
        """Fsync run files until the budget is used up. Returns those that are done or gone."""
        until = time.monotonic() + budget_s
        done = []
        for key in keys:
            try:
                fd = os.open(names.run_name(key), _OPEN, dir_fd=self.fd)
            except FileNotFoundError:
                done.append(key)
                continue
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            done.append(key)
            if time.monotonic() >= until:
                break
        if done:
            os.fsync(self.fd)  # the names, too
        return done

    def _read_bytes(self, name: str) -> bytes | None:
        try:
            fd = os.open(name, _OPEN, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        try:
            return os.pread(fd, RECORD_FILE_BYTES, 0)
        finally:
            os.close(fd)

    def _exists(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _unlink(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return


def write_at(fd: int, offset: int, data: bytes) -> None:
    """Write all of `data`; a short write is a full disk and raises like one."""
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        written += os.pwrite(fd, data[written:], offset + written)
