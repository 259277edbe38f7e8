"""Whether a file may be trusted to run, as sshd's StrictModes judges. Pure over stat results.

What others may change, others may run as us: files and every directory above them belong to root
or to us, and nobody else can write there.
"""

from __future__ import annotations

import os
import stat

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def file_fault(found: os.stat_result, own_uid: int, *, must_run: bool) -> str | None:
    """Why this file (an lstat or fstat result) is not to be trusted; None if it is."""
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link; put the file itself there"
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_uid not in (0, own_uid):
        return f"belongs to uid {found.st_uid}; it must belong to root or uid {own_uid}"
    if found.st_mode & _OTHERS_WRITE:
        return f"has mode {stat.S_IMODE(found.st_mode):04o}; run chmod go-w on it"
    if must_run and not found.st_mode & stat.S_IXUSR:
        return f"has mode {stat.S_IMODE(found.st_mode):04o}; run chmod u+x on it"
    return None


def directory_fault(found: os.stat_result, own_uid: int, *, is_parent: bool) -> str | None:
    """Why a directory is not to be trusted. A parent may be writable if it is sticky (/tmp):
    there nobody can rename or remove what belongs to somebody else.
    """
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if found.st_uid not in (0, own_uid):
        return f"belongs to uid {found.st_uid}; it must belong to root or uid {own_uid}"
    if found.st_mode & _OTHERS_WRITE and not (is_parent and found.st_mode & stat.S_ISVTX):
        return f"has mode {stat.S_IMODE(found.st_mode):04o}; run chmod go-w on it"
    return None


def path_fault(path: str, own_uid: int) -> str | None:
    """Judge a directory and all above it, up to /. `path` is absolute and without links."""
    current, is_parent = path, False
    while True:
        try:
            fault = directory_fault(os.lstat(current), own_uid, is_parent=is_parent)
        except OSError as error:
            fault = f"cannot be read: {error.strerror}"
        if fault is not None:
            return f"{current} {fault}"
        parent = os.path.dirname(current)
        if parent == current:
            return None
        current, is_parent = parent, True
