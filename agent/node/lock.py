"""The lock on the state directory: one daemon writes (P9), readers wait their turn.

The daemon's is exclusive; `agentctl` takes a shared one to read while the daemon is down.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from agent.domain.errors import AgentError

LOCK_FILE = "lock"
READERS_WAITS_MAX = 500
READERS_WAIT_S = 0.01  # a reader holds its lock for milliseconds: five seconds in all are plenty


class AlreadyRunning(AgentError):
    """Another process holds the directory."""


def lock_exclusively(state_dir: Path) -> int:
    """Hold the lock while the descriptor lives. Raises `AlreadyRunning`, naming the owner.

    Another daemon is refused at once; readers are waited for.
    """
    path = state_dir / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(READERS_WAITS_MAX):
        if _try(descriptor, fcntl.LOCK_EX):
            break
        if not _try(descriptor, fcntl.LOCK_SH):
            owner = owner_of(state_dir)
            os.close(descriptor)
            who = f"agentd with pid {owner}" if owner else "another process"
            raise AlreadyRunning(
                f"{state_dir} is in use by {who}; stop it first, "
                "or give this one another --state-dir"
            )
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        time.sleep(READERS_WAIT_S)
    else:
        os.close(descriptor)
        raise AlreadyRunning(f"{state_dir} is being read by another process that does not end")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def lock_shared(state_dir: Path) -> int | None:
    """A reader's lock, or None while a daemon holds its own. OSError if it cannot be opened."""
    descriptor = os.open(state_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    if _try(descriptor, fcntl.LOCK_SH):
        return descriptor
    os.close(descriptor)
    return None


def owner_of(state_dir: Path) -> int | None:
    """The pid that the last daemon wrote into the lock file; it may be gone."""
    try:
        return int((state_dir / LOCK_FILE).read_text())
    except (OSError, ValueError):
        return None


def _try(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
