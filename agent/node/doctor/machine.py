"""What the doctor measures around the database: files and their modes, space, limits, zone data.

Cheap look-ups only, no file is opened for writing; judged in `agent.node.doctor.judge_machine`.
"""

from __future__ import annotations

import os
import resource
import stat
import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PRIVATE = ("agent.db", "agent.db-wal", "api.token", "credential", "lock", "agent.sock")
"""What nobody but the agent's user may read or write."""
ZONES_PROBED = ("Europe/Berlin", "America/New_York")


@dataclass(frozen=True, slots=True)
class FileFound:
    """Owner and mode of one path."""

    path: str
    uid: int
    mode: int
    private: bool
    """Whether it must be closed to everybody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFound:
    """Everything that the machine's checks judge."""

    own_uid: int
    files: tuple[FileFound, ...]
    missing: tuple[str, ...]
    free_bytes: int
    total_bytes: int
    free_inodes: int
    total_inodes: int
    fds_open: int
    fds_max: int
    zones_missing: tuple[str, ...]


def examine_machine(
    state_dir: Path, scripts_dir: Path, zones: Iterable[str], *, listens: bool
) -> MachineFound:
    """Measure all of it; `zones` are those that rules here name. OSError where even that fails."""
    space = os.statvfs(state_dir)
    found, missing = _files(state_dir, scripts_dir, listens=listens)
    return MachineFound(
        own_uid=os.geteuid(),
        files=tuple(found),
        missing=tuple(missing),
        free_bytes=space.f_bavail * space.f_frsize,
        total_bytes=space.f_blocks * space.f_frsize,
        free_inodes=space.f_favail,
        total_inodes=space.f_files,
        fds_open=len(os.listdir("/proc/self/fd")),  # noqa: PTH208  (names only, no paths)
        fds_max=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        zones_missing=tuple(z for z in {*ZONES_PROBED, *zones} if not _has_zone(z)),
    )


def _files(
    state_dir: Path, scripts_dir: Path, *, listens: bool
) -> tuple[list[FileFound], list[str]]:
    found, missing = [], []
    wanted = [(state_dir, True), (state_dir / "runs", True), (scripts_dir, False)]
    wanted += [(state_dir / name, True) for name in PRIVATE]
    needed = {"agent.db", "agent.sock"} | ({"api.token"} if listens else set())
    for path, private in wanted:
        try:
            status = path.lstat()
        except FileNotFoundError:
            if path in (state_dir, scripts_dir) or path.name in needed:
                missing.append(str(path))
            continue
        found.append(FileFound(str(path), status.st_uid, stat.S_IMODE(status.st_mode), private))
    return found, missing


def _has_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
