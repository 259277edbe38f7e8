"""A cgroup of its own for one test, as if delegated, and removed with all that is in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

DEADLINE_S = 5.0


def cgroup2_mount() -> Path | None:
    """Where cgroup v2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split(" ")[4])
    return None


@pytest.fixture
def delegated(tmp_path: Path) -> Iterator[Path]:
    """A directory of cgroup v2 that is ours to divide."""
    mount = cgroup2_mount()
    if mount is None:
        pytest.skip("no cgroup v2 is mounted on this machine")
    path = mount / f"agent-test-{os.getpid()}-{tmp_path.name}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    yield path
    remove(path)


def remove(path: Path) -> None:
    (path / "cgroup.kill").write_text("1")
    until = time.monotonic() + DEADLINE_S
    while "populated 1" in (path / "cgroup.events").read_text():
        assert time.monotonic() < until, f"{path} is not empty"
        time.sleep(0.01)
    for directory in sorted(path.rglob("*/"), key=lambda inner: len(inner.parts), reverse=True):
        if directory.is_dir():
            directory.rmdir()
    path.rmdir()


def pids_in(path: Path) -> list[int]:
    """What lives there, itself only."""
    try:
        return [int(word) for word in (path / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def groups_of(path: Path) -> list[str]:
    """The groups of runs that are there."""
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and "." in entry.name)
