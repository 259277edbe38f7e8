"""Starts one process: posix_spawn (a vfork), own session, no shell, exec through a descriptor.

Not subprocess.Popen: that is a sixth slower here, costs 0.7 MB, and reaps by pid in places that a
subreaper has to know about. What Popen would add is done once at start instead: the runner itself
sits in / with umask 022, and all its descriptors are close-on-exec.
"""

from __future__ import annotations

import os
import signal

_EVERY_SIGNAL = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
_DUP = os.POSIX_SPAWN_DUP2


def prepare_process() -> None:
    """What every child inherits from the runner: directory, umask, no stray descriptors."""
    while (fd := os.open("/dev/null", os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)  # somebody closed it; a script's pipe must not land there
    os.close(fd)
    os.chdir("/")
    os.umask(0o022)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:  # the listing's own descriptor is gone by now
                continue


def make_input(data: bytes) -> int:
    """A descriptor that reads `data` from its start: no pipe, so nobody waits for a reader."""
    fd = os.memfd_create("input")
    try:
        if os.write(fd, data) != len(data):
            raise OSError(28, "no space for the input")
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


def spawn(script: int, path: str, environment: dict[str, str], fds: tuple[int, int, int]) -> int:
    """Start the opened file `script` and return its pid. OSError if it cannot be executed.

    `path` is only argv[0]. `fds` become its stdin, stdout and stderr. The script's descriptor
    stays open in the child, because an interpreter opens /proc/self/fd/N once more.
    """
    return spawn_program(f"/proc/self/fd/{script}", [path], environment, fds, keep=script)


def spawn_program(
    program: str,
    command: list[str],
    environment: dict[str, str],
    fds: tuple[int, ...],
    *,
    keep: int,
) -> int:
    """As `spawn`, of any program. `fds` become 0, 1, 2 and so on; `keep` stays what it is.

    `keep` must be above those numbers, or be none of them.
    """
    return os.posix_spawn(
        program,
        command,
        environment,
        file_actions=[
            *((_DUP, fd, number) for number, fd in enumerate(fds)),
            (_DUP, keep, keep),  # onto itself: clears close-on-exec (POSIX, glibc 2.29)
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=_EVERY_SIGNAL,
    )
