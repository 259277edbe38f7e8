"""Reads and bounds the file that a script reports its progress in. The script owns the content:
nothing in it is trusted, and no file type but a regular one is touched.
"""

from __future__ import annotations

import json
import math
import os
import stat

from agent.runner import names
from agent.runner.limits import (
    PROGRESS_FILE_BYTES_MAX,
    PROGRESS_MESSAGE_CHARS_MAX,
    PROGRESS_TAIL_BYTES,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.runner.names import Key

# O_NONBLOCK: a fifo in this place must not hold up the loop
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def parse_progress(line: bytes) -> tuple[float, str | None] | None:
    """(percent, message) of one line, or None if it does not read as progress."""
    try:
        value = json.loads(line)
        percent = value["percent"]
        message = value.get("message")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if isinstance(percent, bool) or not isinstance(percent, int | float):
        return None
    if not math.isfinite(percent) or not 0 <= percent <= 100:
        return None
    if message is not None and not isinstance(message, str):
        return None
    return percent, None if message is None else _printable(message)


def read_progress(dir_fd: int, key: Key) -> tuple[float, str | None] | None:
    """The latest whole line that reads as progress, or None."""
    fd = _open(dir_fd, key, os.O_RDONLY)
    if fd is None:
        return None
    try:
        lines = _tail(fd, os.fstat(fd).st_size).split(b"\n")[:-1]  # the last one is not whole
    except OSError:
        return None
    finally:
        os.close(fd)
    for line in reversed(lines):
        found = parse_progress(line)
        if found is not None:
            return found
    return None


def bound_progress(dir_fd: int, key: Key) -> None:
    """Cut a file that grew past its bound down to its last whole line."""
    fd = _open(dir_fd, key, os.O_RDWR)
    if fd is None:
        return
    try:
        size = os.fstat(fd).st_size
        if size <= PROGRESS_FILE_BYTES_MAX:
            return
        lines = _tail(fd, size).split(b"\n")[:-1]
        os.ftruncate(fd, 0)
        if lines:
            os.pwrite(fd, lines[-1].lstrip(b"\0") + b"\n", 0)
    except OSError:
        return
    finally:
        os.close(fd)


def _open(dir_fd: int, key: Key, mode: int) -> int | None:
    try:
        fd = os.open(names.progress_name(key), mode | _FLAGS, dir_fd=dir_fd)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return fd


def _tail(fd: int, size: int) -> bytes:
    return os.pread(fd, PROGRESS_TAIL_BYTES, max(0, size - PROGRESS_TAIL_BYTES))


def _printable(message: str) -> str:
    cut = message[:PROGRESS_MESSAGE_CHARS_MAX].encode("utf-8", "replace").decode()
    return "".join(char if char.isprintable() else " " for char in cut)
