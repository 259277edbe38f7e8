"""From a manifest's `user` and `limits` to what the kernel is told. Pure.

What cannot be honoured on this machine is a fault of the kind: a limit that is asked for must not
be missing.
"""

from __future__ import annotations

import resource
from typing import Any, NamedTuple

from agent.runner.limits import CPU_GRACE_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.runner.accounts import Account

SETPRIV_MISSING = "user needs the program setpriv (package util-linux), which is not installed"


class Means(NamedTuple):
    """What this runner has to confine a script with."""

    uid: int
    setpriv: str | None  # the program that changes the account
    controllers: frozenset[str]  # of the delegated cgroup


def user_faults(name: str, account: Account | None, means: Means) -> list[str]:
    """Why a script cannot run as this account."""
    if account is None:
        return [f"user {name}: there is no such account on this machine"]
    if account.uid == means.uid:
        return []
    if means.uid != 0:
        return [f"user {name}: the runner is not root (it is uid {means.uid}), it cannot change"]
    return [] if means.setpriv else [SETPRIV_MISSING]


def limit_faults(limits: dict[str, Any], account: Account | None, means: Means) -> list[str]:
    """Which limits this machine cannot enforce."""
    faults = []
    if "cpu_percent" in limits and "cpu" not in means.controllers:
        faults.append("limits.cpu_percent needs a delegated cgroup with the cpu controller")
    uid = means.uid if account is None else account.uid
    if "processes" in limits and "pids" not in means.controllers and uid == 0:
        faults.append(
            "limits.processes needs a delegated cgroup with the pids controller, or a user: "
            "root has no such limit of its own"
        )
    return faults


def group_settings(limits: dict[str, Any], controllers: frozenset[str]) -> list[tuple[str, str]]:
    """(file, value) for the attempt's cgroup."""
    settings = []
    if "memory_bytes" in limits and "memory" in controllers:
        settings += [
            ("memory.max", str(limits["memory_bytes"])),
            ("memory.oom.group", "1"),  # half a script is worse than none
        ]
    if "processes" in limits and "pids" in controllers:
        settings.append(("pids.max", str(limits["processes"])))
    if "cpu_percent" in limits and "cpu" in controllers:
        settings.append(("cpu.max", f"{int(limits['cpu_percent'] * 1_000)} 100000"))
    return settings


def process_limits(
    limits: dict[str, Any], controllers: frozenset[str]
) -> list[tuple[int, tuple[int, int]]]:
    """(resource, (soft, hard)) for the main process, which its children inherit."""
    found = []
    if "cpu_s" in limits:
        soft = limits["cpu_s"]
        found.append((resource.RLIMIT_CPU, (soft, soft + CPU_GRACE_S)))
    if "memory_bytes" in limits and "memory" not in controllers:
        found.append((resource.RLIMIT_AS, (limits["memory_bytes"],) * 2))
    if "processes" in limits and "pids" not in controllers:
        found.append((resource.RLIMIT_NPROC, (limits["processes"],) * 2))
    for name, number in (("files", resource.RLIMIT_NOFILE), ("file_bytes", resource.RLIMIT_FSIZE)):
        if name in limits:
            found.append((number, (limits[name],) * 2))
    return found


def within(wanted: tuple[int, int], current: tuple[int, int]) -> tuple[int, int]:
    """`wanted`, as far as the runner's own hard limit allows: tighter is never wrong."""
    hard = current[1]
    if hard == resource.RLIM_INFINITY:
        return wanted
    return min(wanted[0], hard), min(wanted[1], hard)
