"""The calls that Python does not offer: prctl, inotify, malloc_trim."""

from __future__ import annotations

import ctypes
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

# inotify(7)
_IN_ATTRIB, _IN_CLOSE_WRITE = 0x004, 0x008
_IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x040, 0x080, 0x100, 0x200
_IN_DELETE_SELF, _IN_MOVE_SELF = 0x400, 0x800
_IN_ONLYDIR = 0x0100_0000
NAMES_CHANGE = _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE
CONTENT_CHANGES = (
    NAMES_CHANGE | _IN_ATTRIB | _IN_CLOSE_WRITE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
)
_EVENT = struct.Struct("iIII")


def become_subreaper() -> None:
    """Orphans of our scripts become our children instead of init's. OSError if it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise _failed("prctl(PR_SET_CHILD_SUBREAPER)")


def drop_ambient_capabilities() -> None:
    """What the runner was given for itself is not for scripts. Where there are none: nothing."""
    ctypes.CDLL(None).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def open_inotify() -> int:
    """A descriptor that becomes readable on changes. OSError if there is none left."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise _failed("inotify_init1")
    return fd


def watch_directory(fd: int, path: str, events: int) -> int:
    """Watch `path` (again); the number of the watch, or -1 if that is not possible."""
    libc = ctypes.CDLL(None, use_errno=True)
    number: int = libc.inotify_add_watch(fd, os.fsencode(path), ctypes.c_uint32(events))
    return number


def parse_inotify(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number of the watch, name in its directory) of each event read from the descriptor."""
    position = 0
    while position + _EVENT.size <= len(data):
        watch, _mask, _cookie, size = _EVENT.unpack_from(data, position)
        position += _EVENT.size
        yield watch, data[position : position + size].rstrip(b"\0")
        position += size


def return_free_memory() -> None:
    """Give back what starting up used and freed, where the C library can."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
