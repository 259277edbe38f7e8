"""What /proc says of processes: CPU time, wake-ups, memory. And fsyncs, by a preloaded counter."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import NamedTuple

MIB = 1024 * 1024


class Usage(NamedTuple):
    """Of some processes together. CPU in seconds, memory in bytes; differences by `since`."""

    cpu_s: float
    switches: int
    rss: int
    pss: int

    def since(self, before: Usage) -> Usage:
        """Spent since then; memory as it is now."""
        return Usage(self.cpu_s - before.cpu_s, self.switches - before.switches, self.rss, self.pss)


def usage(pids: list[int]) -> Usage:
    """The sum over processes and their threads."""
    found = [_usage(pid) for pid in pids]
    return Usage(*(sum(column) for column in zip(*found, strict=True)))


def _usage(pid: int) -> Usage:
    cpu_ns = switches = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        cpu_ns += int((task / "schedstat").read_text().split()[0])
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                switches += int(line.split()[1])
    memory = dict.fromkeys(("Rss:", "Pss:"), 0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        words = line.split()
        if words[0] in memory:
            memory[words[0]] = int(words[1]) * 1024
    return Usage(cpu_ns / 1e9, switches, memory["Rss:"], memory["Pss:"])


class SyncCounter:
    """fsyncs and fdatasyncs of every process started with `environment`."""

    def __init__(self, path: Path, preload: Path) -> None:
        path.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(preload), "BENCH_SYNC_FILE": str(path)}
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8)

    @property
    def count(self) -> int:
        """So far."""
        return int.from_bytes(self._shared[:8], "little")


def fsync_ms(directory: Path) -> float:
    """The median of a small write with fdatasync there."""
    path = directory / "fsync"
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    taken = []
    for _ in range(50):
        os.pwrite(fd, bytes(4096), 0)
        began = time.monotonic()
        os.fdatasync(fd)
        taken.append(time.monotonic() - began)
    os.close(fd)
    path.unlink()
    return sorted(taken)[25] * 1000
