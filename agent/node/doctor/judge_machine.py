"""Judgement on what was measured around the database. Pure: values in, checks out."""

from __future__ import annotations

from collections.abc import Iterator

from agent.node.doctor.check import Check, fail, ok, warn
from agent.node.doctor.machine import FileFound, MachineFound

FREE_BYTES_WARN = 512 * 1024 * 1024  # scripts and their output fill this within minutes
FREE_BYTES_FAIL = 32 * 1024 * 1024  # the log of the database alone may need half of it
FREE_SHARE_WARN = 0.02
FREE_INODES_WARN = 10_000  # each run has up to five files
FREE_INODES_FAIL = 500
FDS_FREE_WARN = 256  # each caller of the API is one
FDS_MAX_WARN = 1_024
_OTHERS = 0o077
_OTHERS_WRITE = 0o022


def judge_machine(found: MachineFound) -> Iterator[Check]:
    """One check after another."""
    yield judge_permissions(found)
    yield judge_space(found.free_bytes, found.total_bytes)
    yield judge_inodes(found.free_inodes, found.total_inodes)
    yield judge_descriptors(found.fds_open, found.fds_max)
    yield judge_zones(found.zones_missing)


def judge_permissions(found: MachineFound) -> Check:
    """State, token and socket are the agent's alone; scripts are nobody else's to write."""
    name = "permissions"
    faults = [f"{path} is missing" for path in found.missing]
    faults += [fault for file in found.files if (fault := _file_fault(file, found.own_uid))]
    if not faults:
        return ok(name, f"{len(found.files)} files and directories are closed to others")
    return fail(
        name,
        "; ".join(faults),
        "chown and chmod as told; whoever can write there can run things as the agent's user",
    )


def _file_fault(file: FileFound, own_uid: int) -> str | None:
    if file.uid not in (0, own_uid):
        return f"{file.path} belongs to uid {file.uid}, not to {own_uid} or root"
    forbidden = _OTHERS if file.private else _OTHERS_WRITE
    if file.mode & forbidden:
        closed = "go-rwx" if file.private else "go-w"
        return f"{file.path} has mode {file.mode:04o}: chmod {closed}"
    return None


def judge_space(free: int, total: int) -> Check:
    """Room for the database, its log and the scripts' output."""
    name = "disk_space"
    told = f"{_size(free)} of {_size(total)} are free in the state directory's file system"
    advice = "make room; nothing starts while the database cannot be written, and nothing is lost"
    if free < FREE_BYTES_FAIL:
        return fail(name, told, advice)
    if free < FREE_BYTES_WARN or free < total * FREE_SHARE_WARN:
        return warn(name, told, advice)
    return ok(name, told)


def judge_inodes(free: int, total: int) -> Check:
    """Room for run files."""
    name = "inodes"
    if not total:
        return ok(name, "this file system does not count inodes")
    told = f"{free} of {total} inodes are free in the state directory's file system"
    advice = "remove small files there; each run needs up to five"
    if free < FREE_INODES_FAIL:
        return fail(name, told, advice)
    return warn(name, told, advice) if free < FREE_INODES_WARN else ok(name, told)


def judge_descriptors(used: int, limit: int) -> Check:
    """Room for callers of the API."""
    name = "descriptors"
    told = f"{used} of {limit} file descriptors are open"
    if limit - used < FDS_FREE_WARN or limit < FDS_MAX_WARN:
        return warn(name, told, "raise LimitNOFILE= in the unit of agentd")
    return ok(name, told)


def judge_zones(missing: tuple[str, ...]) -> Check:
    """Schedules with a zone need its rules."""
    name = "zone_data"
    if not missing:
        return ok(name, "the zones that schedules here name are known")
    return fail(
        name,
        f"not known here: {', '.join(sorted(missing))}",
        "install the tzdata package of the distribution; rules of these zones cannot be planned",
    )


def _size(size: int) -> str:
    if size >= 1 << 30:
        return f"{size / (1 << 30):.1f} GiB"
    return f"{size / (1 << 20):.1f} MiB"
