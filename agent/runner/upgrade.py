"""Replacing the runner's own code: noticed by the version on disk, done by `exec` when idle.

The lock and the listening socket go along as open descriptors, so no other runner can come in
between and nobody who connects is refused. Results are on disk, made durable before. A client's
connection is closed; it comes again and claims, as after any lost connection.
"""

from __future__ import annotations

import os
import re
import sys
import time

from agent.runner.limits import UPGRADE_SETTLE_S, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import NoReturn

_VARIABLE = "AGENT_RUNNER_HANDOVER"  # "lock=5 listener=7"
_ASSIGNED = re.compile(rb'^VERSION = "([^"]{1,64})"', re.MULTILINE)
_HEAD_BYTES = 4_096
WHERE = os.path.join(os.path.dirname(__file__), "limits.py")


def version_on_disk(path: str = WHERE) -> tuple[str | None, float]:
    """(the installed version, its age in seconds); None while it is not whole."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None, 0.0
    try:
        found = _ASSIGNED.search(os.pread(fd, _HEAD_BYTES, 0))
        age_s = time.time() - os.fstat(fd).st_ctime
    except OSError:
        return None, 0.0
    finally:
        os.close(fd)
    return (found[1].decode("ascii", "replace") if found else None), age_s


class Upgrade:
    """Whether other code than ours is installed, looked at only when that file has changed."""

    def __init__(self, path: str = WHERE) -> None:
        self._path = path
        self._seen = self._stamp()

    def wait_s(self) -> float | None:
        """None: nothing new. 0: now. Else so long, until the installer has certainly finished."""
        stamp = self._stamp()
        if stamp == self._seen:
            return None
        version, age_s = version_on_disk(self._path)
        if version is not None and 0 <= age_s < UPGRADE_SETTLE_S:
            return UPGRADE_SETTLE_S - age_s
        if version is None or version == VERSION:
            self._seen = stamp
            return None
        return 0.0

    def _stamp(self) -> tuple[int, int, int]:
        try:
            found = os.stat(self._path)
        except OSError:
            return 0, 0, 0
        return found.st_ino, found.st_mtime_ns, found.st_size


def take_over(environ: MutableMapping[str, str]) -> dict[str, int]:
    """The descriptors that the predecessor handed over; removed, so that no script sees them."""
    given = environ.pop(_VARIABLE, "")
    found = {}
    for word in given.split():
        name, _, number = word.partition("=")
        if number.isdigit():
            os.set_inheritable(int(number), False)
            found[name] = int(number)
    return found


def execute_anew(descriptors: dict[str, int], directory: str) -> NoReturn:
    """Become the installed version. OSError: it did not work, and we are who we were."""
    environment = {**os.environ, _VARIABLE: " ".join(f"{n}={fd}" for n, fd in descriptors.items())}
    here = os.getcwd()
    try:
        os.chdir(directory)  # where our own relative paths and imports were meant
    except OSError:
        pass
    for fd in descriptors.values():
        os.set_inheritable(fd, True)
    try:
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, environment)  # noqa: S606 - ourselves
    except OSError:
        for fd in descriptors.values():
            os.set_inheritable(fd, False)
        os.chdir(here)
        raise
