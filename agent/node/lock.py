"""The lock on the state directory: one daemon writes (P9), readers wait their turn.

The daemon's is exclusive; `agentctl` takes a shared one to read while the daemon is down.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from agent.domain.errors import AgentError

LOCK_FILE = "lock"


class AlreadyRunning(AgentError):
    """Another process holds the directory."""


def lock_exclusively(state_dir: Path) -> int:
    """Hold the lock while the descriptor lives. Raises `AlreadyRunning`, naming the owner."""
    path = state_dir / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 64).decode(errors="replace").strip()
        os.close(descriptor)
        who = f"agentd with pid {owner}" if owner else "another process"
        raise AlreadyRunning(
            f"{state_dir} is in use by {who}; stop it first, or give this one another --state-dir"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def lock_shared(state_dir: Path) -> int | None:
    """A reader's lock, or None while a daemon holds its own. OSError if it cannot be opened."""
    descriptor = os.open(state_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
