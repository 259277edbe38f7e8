"""Unix socket addresses longer than the kernel's 107 bytes, reached through their directory.

`sun_path` is short and state directories are not; `/proc/self/fd/N/name` names the same socket.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUN_PATH_BYTES_MAX = 107


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """An address that bind and connect accept for `path`, valid inside the block."""
    if len(os.fsencode(path)) <= SUN_PATH_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
