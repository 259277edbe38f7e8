"""Starts a script that needs more than a spawn: another account, limits, or a cgroup of its own.

Never by code between fork and exec. A constant launcher waits at a gate; from outside, the runner
puts it into its cgroup and sets its limits; then it lets go, and the launcher becomes the script
(`exec`, so pid and session stay). No data is put into the launcher's text: what it starts are its
arguments. If the runner dies before it lets go, the launcher reads an end and ends itself.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import resource
import signal

from agent.runner import confinement, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.runner.accounts import Account
    from agent.runner.cgroups import Group

SHELL = "/bin/sh"
NEVER_LET_GO = 125
# `unset`: a shell exports these, and a script's environment is ours to say.
TEXT = f'read -r _ <&3 || exit {NEVER_LET_GO}; exec 3<&-; unset PWD OLDPWD SHLVL; exec "$@"'
FAILURES = frozenset((1, NEVER_LET_GO, 126, 127))
_MAGIC = (b"#!", b"\x7fELF")
_SETPRIV = ("/usr/bin/setpriv", "/bin/setpriv", "/usr/sbin/setpriv")
_SHELL_AT = 64
_ABOVE_SHELL = 10  # 0-3 are given, and a shell may use the others below for itself


def find_setpriv() -> str | None:
    """The program that changes the account, by its full name."""
    return next((path for path in _SETPRIV if os.access(path, os.X_OK)), None)


def check_format(script: int) -> None:
    """Refuse what `execve` would: a shell reads anything else as commands of its own. OSError."""
    if not os.pread(script, 4, 0).startswith(_MAGIC):
        raise OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC))


def never_became_the_script(name: bytes, code: int | None) -> bool:
    """Whether a process of this name (in /proc/PID/stat) and end was still the launcher."""
    return code in FAILURES and name in (b"setpriv", b"%d" % _shell())


@functools.cache
def _shell() -> int:
    """The shell, opened: a program is called by its path's last part, and this one is unlike any
    that a script executes.
    """
    fd = os.open(SHELL, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SHELL_AT)
    finally:
        os.close(fd)


def arguments(script: int, account: Account | None, setpriv: str | None) -> list[str]:
    """What the launcher executes."""
    target = f"/proc/self/fd/{script}"
    if account is None:
        return [target]
    assert setpriv is not None, "a kind with a user has a fault where there is no setpriv"
    return [
        setpriv, f"--reuid={account.uid}", f"--regid={account.gid}",
        f"--groups={','.join(map(str, account.groups))}", "--inh-caps=-all", target,
    ]  # fmt: skip


class Launcher:
    """A launcher that waits at its gate."""

    def __init__(
        self,
        script: int,
        environment: dict[str, str],
        fds: tuple[int, int, int],
        account: Account | None,
        setpriv: str | None,
    ) -> None:
        """Spawn it. OSError if that fails."""
        own = fcntl.fcntl(script, fcntl.F_DUPFD_CLOEXEC, _ABOVE_SHELL)
        reading, self._gate = -1, -1
        try:
            reading, self._gate = os.pipe()
            command = ["sh", "-c", TEXT, "agent-runner", *arguments(own, account, setpriv)]
            shell = f"/proc/self/fd/{_shell()}"
            self.pid = spawn.spawn_program(shell, command, environment, (*fds, reading), keep=own)
        except OSError:
            if self._gate >= 0:
                os.close(self._gate)
            raise
        finally:
            os.close(own)
            if reading >= 0:
                os.close(reading)

    def confine(
        self,
        group: Group | None,
        settings: Iterable[tuple[str, str]],
        limits: Iterable[tuple[int, tuple[int, int]]],
    ) -> None:
        """Put it where it belongs and limit it. OSError: it must not be let go."""
        if group is not None:
            for file, value in settings:
                group.limit(file, value)
            group.add(self.pid)
        for number, wanted in limits:
            current = resource.prlimit(self.pid, number)
            resource.prlimit(self.pid, number, confinement.within(wanted, current))

    def let_go(self) -> None:
        """Now it becomes the script."""
        try:
            os.write(self._gate, b"\n")
        except OSError:  # somebody has killed it; its end is seen like any other
            pass
        finally:
            os.close(self._gate)

    def abandon(self) -> None:
        """End it before it was let go, and reap it: our unreaped child, so the pid is its own."""
        os.close(self._gate)
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED)
