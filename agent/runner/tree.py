"""Which processes belong to a run. Pure over a snapshot; environments are read through a port.

A process belongs to a run by session, process group, ancestry, or by AGENT_PROGRESS in its
environment. That variable and not AGENT_ACTION_ID: it names the runs directory and the run, so
another runner's run of the same id on this machine is never touched.
"""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.runner.processes import Process

    ReadEnviron = Callable[[int], bytes]

_VARIABLE = b"AGENT_PROGRESS="


class Mark(NamedTuple):
    """What a run's processes can be recognised by.

    `leader` is the main process's pid while its identity is certain (it is alive or a zombie
    of ours), else None. `roots` are other processes known to belong to it.
    """

    leader: int | None
    progress: bytes
    roots: frozenset[int] = frozenset()
    started: int = 0  # the main process's start time: nothing older can belong to it


def members(
    mark: Mark, processes: dict[int, Process], read_environ: ReadEnviron, never: frozenset[int]
) -> list[Process]:
    """The living processes of one run. `never` holds pids that are not to be touched."""
    found = {
        process.pid
        for process in processes.values()
        if process.pid not in never and _is_direct(mark, process, read_environ)
    }
    found |= _descendants(found, processes)
    return [processes[pid] for pid in found - never if not processes[pid].is_dead]


def _is_direct(mark: Mark, process: Process, read_environ: ReadEnviron) -> bool:
    if process.pid in mark.roots:
        return True
    if mark.leader is not None and mark.leader in (process.pid, process.session, process.group):
        return True
    if process.is_dead or process.started < mark.started or not mark.progress:
        return False
    return progress_of(read_environ(process.pid)) == mark.progress


def _descendants(roots: Iterable[int], processes: dict[int, Process]) -> set[int]:
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in found:
                found.add(pid)
                waiting.append(pid)
    return found


def progress_of(environ: bytes) -> bytes | None:
    """AGENT_PROGRESS in an environment block, or None."""
    start = 0 if environ.startswith(_VARIABLE) else environ.find(b"\0" + _VARIABLE) + 1
    if start == 0 and not environ.startswith(_VARIABLE):
        return None
    end = environ.find(b"\0", start)
    return environ[start + len(_VARIABLE) : end if end >= 0 else None]
