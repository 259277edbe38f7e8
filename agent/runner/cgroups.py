"""One cgroup per attempt, below a subtree that was delegated to the runner (cgroup v2).

Named by row and start number only. What is in it is found, stopped and verified by the kernel's
own book-keeping, whatever a script does to its session, its parents or its environment. The runner
itself sits in a leaf of its own: a cgroup with controllers for its children holds no process.
"""

from __future__ import annotations

import errno
import os
import re
import signal

from agent.runner.names import Key

LEAF = "runner"
CONTROLLERS = ("cpu", "memory", "pids")
_NAME = re.compile(r"([1-9][0-9]*)\.([1-9][0-9]*)\Z")
_DELEGATED = ("trusted.delegate", "user.delegate")  # systemd's marks, for root and for others


class Group:
    """The cgroup of one attempt."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def add(self, pid: int) -> None:
        """Move a process here. OSError if it cannot be."""
        _write(f"{self.path}/cgroup.procs", str(pid))

    def limit(self, file: str, value: str) -> None:
        """Set a limit. OSError if the kernel does not take it."""
        _write(f"{self.path}/{file}", value)

    def pids(self) -> set[int]:
        """What lives here and below. Empty when the group is gone."""
        found: set[int] = set()
        for directory in (self.path, *_below(self.path)):
            found.update(int(word) for word in _read(f"{directory}/cgroup.procs").split())
        return found

    @property
    def is_populated(self) -> bool:
        """Whether anything lives here or below; zombies do not count."""
        return "populated 1" in _read(f"{self.path}/cgroup.events")

    def kill(self) -> None:
        """KILL to all, at once: what forks meanwhile does not get away."""
        try:
            _write(f"{self.path}/cgroup.kill", "1")
        except OSError:  # before Linux 5.14; whoever asks looks again until it is empty
            for pid in self.pids():
                _kill(pid)

    def remove(self) -> bool:
        """Remove it if nothing lives here; whether it is gone."""
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno != errno.EBUSY or self.is_populated:
                return False
            return self._remove_all()
        return True

    def _remove_all(self) -> bool:
        """A script may have divided its group."""
        for directory in sorted(_below(self.path), key=len, reverse=True):
            try:
                os.rmdir(directory)
            except OSError:
                return False
        try:
            os.rmdir(self.path)
        except OSError:
            return False
        return True

    def count(self, file: str, word: str) -> int:
        """A counter such as `oom_kill` of `memory.events`; 0 where there is none."""
        for line in _read(f"{self.path}/{file}").splitlines():
            name, _, number = line.partition(" ")
            if name == word and number.isdigit():
                return int(number)
        return 0


class Cgroups:
    """The delegated subtree."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.controllers: frozenset[str] = frozenset()
        self._left: list[Group] = []  # of runs whose leftovers stay: removed when they are empty

    def settle_in(self) -> None:
        """Move the runner into its leaf and enable what there is. OSError: not ours to divide."""
        leaf = f"{self.base}/{LEAF}"
        if not os.path.isdir(leaf):
            os.mkdir(leaf)
        _write(f"{leaf}/cgroup.procs", "0")
        offered = _read(f"{self.base}/cgroup.controllers").split()
        for name in CONTROLLERS:
            if name in offered:
                try:
                    _write(f"{self.base}/cgroup.subtree_control", f"+{name}")
                except OSError:  # e.g. other processes sit beside us: this limit is not to be had
                    continue
        enabled = _read(f"{self.base}/cgroup.subtree_control").split()
        self.controllers = frozenset(enabled) & frozenset(CONTROLLERS)

    def make(self, key: Key) -> Group:
        """The group of a new run. OSError if there can be none."""
        group = Group(f"{self.base}/{key.row}.{key.start_no}")
        try:
            os.mkdir(group.path)
        except FileExistsError:  # of another database; empty, or it is an error after all
            group.remove()
            os.mkdir(group.path)
        return group

    def found(self) -> list[tuple[Key, Group]]:
        """The groups that are there: after a start, those of a killed runner."""
        groups = []
        for name in os.listdir(self.base):
            match = _NAME.match(name)
            if match is not None:
                key = Key(int(match[1]), int(match[2]))
                groups.append((key, Group(f"{self.base}/{name}")))
        return groups

    def leave(self, group: Group) -> None:
        """What lives there stays; the group goes when it is empty."""
        self._left.append(group)
        self.sweep()

    def sweep(self) -> None:
        """Remove left groups that became empty."""
        if self._left:
            self._left = [group for group in self._left if not group.remove()]


def find_delegated(wanted: str) -> Cgroups | None:
    """The subtree to use: `auto` (one that systemd delegated), `off`, or a directory.

    That a named directory is one is checked by the options.
    """
    if wanted == "off":
        return None
    if wanted != "auto":
        return Cgroups(os.path.realpath(wanted))
    own = own_directory(_read("/proc/self/cgroup"), _read("/proc/self/mountinfo"))
    if own is None:
        return None
    candidates = [own]
    if os.path.basename(own) == LEAF:  # a runner that has replaced its own code is there already
        candidates.append(os.path.dirname(own))
    for directory in candidates:
        if _is_delegated(directory):
            return Cgroups(directory)
    return None


def own_directory(cgroups: str, mounts: str) -> str | None:
    """Where our cgroup v2 is in the file system, from /proc/self/cgroup and mountinfo. Pure."""
    path = next((line[3:] for line in cgroups.splitlines() if line.startswith("0::")), None)
    if path is None:
        return None
    for line in mounts.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or not after.startswith("cgroup2 ") or len(fields) < 5:
            continue
        root, point = fields[3].rstrip("/"), fields[4]
        if path == root or path.startswith(root + "/"):
            return (point + path[len(root) :]).rstrip("/")
    return None


def _is_delegated(directory: str) -> bool:
    for name in _DELEGATED:
        try:
            if os.getxattr(directory, name) == b"1":
                return True
        except OSError:
            continue
    return False


def _below(directory: str) -> list[str]:
    found = []
    waiting = [directory]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        found += inner
        waiting += inner
    return found


def _kill(pid: int) -> None:
    if pid in (0, 1, os.getpid()):
        return
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _read(path: str) -> str:
    """Empty if it cannot be read: the group is gone, or the kernel does not have that file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        data = b""
        while chunk := os.read(fd, 65_536):
            data += chunk
    except OSError:
        return ""
    finally:
        os.close(fd)
    return data.decode("utf-8", "replace")
