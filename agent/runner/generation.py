"""The highest generation of agentd ever seen, durable: an overtaken agentd commands nothing."""

from __future__ import annotations

import os

_NAME = "generation"


class Generation:
    """One number in one file, replaced atomically."""

    def __init__(self, dir_fd: int) -> None:
        self._dir_fd = dir_fd
        self.current = self._read()

    def raise_to(self, value: int) -> None:
        """Remember a higher one, durably, before it counts. OSError: then it does not."""
        if value <= self.current:
            return
        temporary = _NAME + ".new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(temporary, flags, 0o600, dir_fd=self._dir_fd)
        try:
            os.write(fd, b"%d\n" % value)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, _NAME, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
        os.fsync(self._dir_fd)
        self.current = value

    def _read(self) -> int:
        """0 for a file that is missing or unreadable: agentd's own lock still holds then."""
        try:
            fd = os.open(_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._dir_fd)
        except FileNotFoundError:
            return 0
        try:
            return int(os.read(fd, 64))
        except ValueError:
            return 0
        finally:
            os.close(fd)
