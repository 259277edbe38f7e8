"""What a manifest asks for, as the kernel is told; and what this machine cannot do."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from agent.runner import confinement
from agent.runner.accounts import Account, find_account, may_run
from agent.runner.cgroups import Cgroups, Group, own_directory
from agent.runner.confinement import Means
from agent.runner.manifest_checks import parse_size
from agent.runner.names import Key
from agent.runner.processes import parse_zombie

ALL = frozenset(("cpu", "memory", "pids"))
NONE: frozenset[str] = frozenset()
ROOT = Means(0, "/usr/bin/setpriv", NONE)
DEPLOY = Account("deploy", 1_000, 1_000, (1_000, 4), "/home/deploy")


def test_a_controller_is_preferred_to_a_limit_of_one_process() -> None:
    limits = {"memory_bytes": 1 << 30, "processes": 5, "cpu_percent": 150, "cpu_s": 7}
    assert confinement.group_settings(limits, ALL) == [
        ("memory.max", str(1 << 30)), ("memory.oom.group", "1"), ("pids.max", "5"),
        ("cpu.max", "150000 100000"),
    ]  # fmt: skip
    assert confinement.process_limits(limits, ALL) == [(resource.RLIMIT_CPU, (7, 9))]
    assert confinement.group_settings(limits, NONE) == []
    assert dict(confinement.process_limits(limits, NONE)) == {
        resource.RLIMIT_CPU: (7, 9),
        resource.RLIMIT_AS: (1 << 30, 1 << 30),
        resource.RLIMIT_NPROC: (5, 5),
    }


def test_the_runners_own_hard_limit_stands() -> None:
    assert confinement.within((100, 100), (50, 70)) == (70, 70)
    assert confinement.within((100, 100), (50, resource.RLIM_INFINITY)) == (100, 100)


def test_limits_that_cannot_be_kept_are_faults() -> None:
    limits = {"cpu_percent": 50, "processes": 5}
    assert len(confinement.limit_faults(limits, None, ROOT)) == 2
    assert len(confinement.limit_faults(limits, DEPLOY, ROOT)) == 1, "not root: RLIMIT_NPROC holds"
    assert confinement.limit_faults(limits, None, ROOT._replace(controllers=ALL)) == []


def test_users_that_cannot_be_had_are_faults() -> None:
    assert confinement.user_faults("deploy", DEPLOY, ROOT) == []
    assert "no such account" in confinement.user_faults("deploy", None, ROOT)[0]
    assert "not root" in confinement.user_faults("deploy", DEPLOY, Means(5, "x", NONE))[0]
    assert confinement.user_faults("deploy", DEPLOY, Means(1_000, None, NONE)) == []
    assert "setpriv" in confinement.user_faults("deploy", DEPLOY, Means(0, None, NONE))[0]


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "may"),
    [
        (0o755, 0, 0, True), (0o700, 0, 0, False), (0o750, 0, 4, True), (0o710, 0, 4, False),
        (0o711, 0, 0, False), (0o500, 1_000, 0, True), (0o055, 1_000, 0, False),
    ],
)  # fmt: skip
def test_an_interpreter_must_be_able_to_read_the_script(
    mode: int, uid: int, gid: int, may: bool
) -> None:
    found = os.stat_result((0o100000 | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))
    assert may_run(found, DEPLOY) is may


def test_an_account_is_found_with_its_groups() -> None:
    assert find_account("no-such-account-here") is None
    root = find_account("root")
    assert root is not None
    assert (root.uid, root.gid) == (0, 0)
    assert 0 in root.groups


@pytest.mark.parametrize(
    ("value", "size"),
    [(7, 7), ("7", 7), ("512M", 512 << 20), ("1 GiB", 1 << 30), ("2KB", 2048), ("1T", 1 << 40),
     (True, None), (1.5, None), ("1.5G", None), ("G", None), ("", None), ("-1", None)],
)  # fmt: skip
def test_sizes(value: object, size: int | None) -> None:
    assert parse_size(value) == size


MOUNT = "41 31 0:38 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
OTHER = "40 31 0:37 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"


@pytest.mark.parametrize(
    ("cgroups", "mounts", "directory"),
    [
        ("0::/a/b\n", OTHER + MOUNT.format(root="/"), "/sys/fs/cgroup/a/b"),
        ("0::/\n", MOUNT.format(root="/"), "/sys/fs/cgroup"),
        ("0::/c/x\n", MOUNT.format(root="/c"), "/sys/fs/cgroup/x"),
        ("0::/d\n", MOUNT.format(root="/c"), None),
        ("8:pids:/a\n", MOUNT.format(root="/"), None),
        ("0::/a\n", OTHER, None),
    ],
)
def test_our_own_cgroup_is_found(cgroups: str, mounts: str, directory: str | None) -> None:
    assert own_directory(cgroups, mounts) == directory


def test_a_group_is_named_by_numbers_and_counts_what_happened(tmp_path: Path) -> None:
    cgroups = Cgroups(str(tmp_path))
    group = cgroups.make(Key(12, 3))
    assert [key for key, _ in cgroups.found()] == [Key(12, 3)]
    (tmp_path / "12.3" / "memory.events").write_text("low 0\nmax 9\noom_kill 2\n")
    assert group.count("memory.events", "oom_kill") == 2
    assert group.count("pids.events", "max") == 0


def test_a_group_that_is_gone_is_empty(tmp_path: Path) -> None:
    group = Group(str(tmp_path / "1.1"))
    assert group.pids() == set()
    assert not group.is_populated
    assert group.remove()
    group.kill()


def test_a_zombie_tells_its_last_program_and_its_time() -> None:
    stat = b"7 (a (b) c) Z 1 7 7 0 -1 4 0 0 0 0 150 50 0 0 20 0 1 0 99 0 0\n"
    zombie = parse_zombie(stat, 100)
    assert zombie is not None
    assert (zombie.name, zombie.cpu_s) == (b"a (b) c", 2.0)
    assert parse_zombie(b"", 100) is None
