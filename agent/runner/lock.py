"""One runner per runs directory: an flock on runner.lock, held until the process is gone.

A child between fork and exec shares the descriptor, so the lock also proves that no process of a
killed runner is still on its way to becoming a script.
"""

from __future__ import annotations

import fcntl
import os
import time

from agent.runner.limits import LOCK_PATIENCE_S

_NAME = "runner.lock"


class Locked(Exception):
    """Another runner holds the lock; the message names it."""


def take_lock(runs_dir: str, patience_s: float = LOCK_PATIENCE_S, handed: int | None = None) -> int:
    """Take the lock and write our pid into it. The descriptor stays open for good.

    `handed` is one that holds it already: what we were before we executed ourselves anew had it.
    """
    path = os.path.join(runs_dir, _NAME)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o600) if handed is None else handed
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            if os.path.exists(f"/proc/{holder or 'self'}") or time.monotonic() >= until:
                os.close(fd)
                raise Locked(
                    f"{path} is held by the runner with pid {holder or '(not yet written)'}; "
                    "one runner at a time serves a runs directory: stop that one first"
                ) from None
        time.sleep(0.01)  # the holder is dead: its last child is about to let go
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd
