"""The core's directory: one process at a time, a token for the operator, and where it listens.

Files: `lock`, `admin.token` (0600), `listen` (HOST:PORT while it runs), `core.db`. A database that
lies elsewhere has a lock beside it: one writer, whichever directory it is reached from.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from agent.domain.errors import AgentError

LOCK_FILE = "lock"
TOKEN_FILE = "admin.token"  # noqa: S105  (a file's name)
LISTEN_FILE = "listen"
DATABASE_FILE = "core.db"
TOKEN_BYTES_MAX = 512


class AlreadyRunning(AgentError):
    """Another process holds the directory."""


class UnusableToken(AgentError):
    """The token file cannot be what it should be."""


def lock_files(state_dir: Path, database: Path | None) -> list[Path]:
    """What one core holds: its directory, and the database if that is a file elsewhere."""
    own = state_dir / LOCK_FILE
    if database is None:
        return [own]
    found = database.resolve()
    apart = found.parent != state_dir.resolve()
    return [own, found.with_name(f"{found.name}.{LOCK_FILE}")] if apart else [own]


def lock_exclusively(file: Path) -> int:
    """Hold the lock while the descriptor lives. Raises `AlreadyRunning`, naming the owner."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 64).decode(errors="replace").strip()
        os.close(descriptor)
        who = f"cored with pid {owner}" if owner else "another process"
        raise AlreadyRunning(
            f"{file} is held by {who}: stop it first, or give this one another --state-dir and "
            "--database"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def read_token(state_dir: Path) -> str | None:
    """The operator's token, or None where there is no file. Raises `UnusableToken`."""
    path = state_dir / TOKEN_FILE
    try:
        text = path.read_bytes()[:TOKEN_BYTES_MAX].decode("ascii").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        text = ""
    if len(text) < 32 or any(character.isspace() for character in text):
        raise UnusableToken(
            f"{path} does not hold a token of at least 32 characters; remove it and start again "
            "to get a new one"
        )
    return text


def is_readable_by_others(state_dir: Path) -> bool:
    """Whether more than its owner can read the token."""
    return bool((state_dir / TOKEN_FILE).stat().st_mode & 0o077)


def write_token(state_dir: Path, token: str) -> None:
    """Write the token so that it is whole or not there, and never readable by others."""
    write_whole(state_dir / TOKEN_FILE, token + "\n")


def write_whole(path: Path, text: str) -> None:
    """Replace a small file atomically and durably, mode 0600."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
