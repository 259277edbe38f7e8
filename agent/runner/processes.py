"""What /proc says about processes. Reads only; whom to signal is decided in tree.py.

A process is identified by boot id, pid and start time: a pid alone is reused.
"""

from __future__ import annotations

import os
import signal
from typing import NamedTuple


class Process(NamedTuple):
    """One line of /proc/PID/stat, as much as identifies it and its place in the tree."""

    pid: int
    parent: int
    group: int
    session: int
    started: int  # clock ticks since boot
    is_dead: bool  # a zombie: it ended, its parent has not looked yet


def boot_id() -> str:
    """The kernel's identity of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


class Zombie(NamedTuple):
    """What is left of a process that ended and was not reaped."""

    name: bytes  # of the program it executed last
    cpu_s: float  # its own and its reaped children's


def parse_zombie(data: bytes, ticks_per_s: int) -> Zombie | None:
    """Read /proc/PID/stat for what it tells of the past."""
    try:
        name = data[data.index(b"(") + 1 : data.rindex(b")")]
        fields = data[data.rindex(b")") + 2 :].split()
        return Zombie(name, (int(fields[11]) + int(fields[12])) / ticks_per_s)
    except (ValueError, IndexError):
        return None


def read_zombie(pid: int) -> Zombie | None:
    """The zombie of this pid, which the caller has not reaped."""
    data = _read(f"/proc/{pid}/stat")
    return None if data is None else parse_zombie(data, os.sysconf("SC_CLK_TCK"))


def parse_stat(data: bytes) -> Process | None:
    """Read /proc/PID/stat. The command in it may contain spaces and parentheses."""
    try:
        pid = int(data[: data.index(b" ")])
        fields = data[data.rindex(b")") + 2 :].split()
        is_dead = fields[0] in (b"Z", b"X")
        parent, group, session = int(fields[1]), int(fields[2]), int(fields[3])
        return Process(pid, parent, group, session, int(fields[19]), is_dead)
    except (ValueError, IndexError):
        return None


def read_process(pid: int) -> Process | None:
    """The process that has this pid now, if any."""
    data = _read(f"/proc/{pid}/stat")
    return None if data is None else parse_stat(data)


def read_environ(pid: int) -> bytes:
    """The environment that it was started with; empty when it may not be read."""
    return _read(f"/proc/{pid}/environ") or b""


def read_children() -> list[int]:
    """The runner's direct children, adopted ones and zombies included."""
    pid = os.getpid()
    data = _read(f"/proc/self/task/{pid}/children")
    if data is None:  # a kernel without CONFIG_PROC_CHILDREN
        return [found.pid for found in snapshot().values() if found.parent == pid]
    return [int(word) for word in data.split()]


def snapshot() -> dict[int, Process]:
    """All processes now."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = read_process(int(name))
            if process is not None:
                found[process.pid] = process
    return found


def send(process: Process, *signals: signal.Signals) -> bool:
    """Signal exactly this process, by pidfd. False if it is gone or may not be signalled."""
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        now = read_process(process.pid)  # after the open: from here on the pidfd is this one
        if now is None or now.started != process.started:
            return False
        for number in signals:
            signal.pidfd_send_signal(fd, number)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _read(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = chunk = os.read(fd, 65_536)
        while chunk and len(data) < 4_194_304:
            chunk = os.read(fd, 65_536)
            data += chunk
    except OSError:
        return None
    else:
        return data
    finally:
        os.close(fd)
