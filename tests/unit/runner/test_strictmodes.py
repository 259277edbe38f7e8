"""Who may change a script may run anything as us."""

from __future__ import annotations

import os
import stat

import pytest

from agent.runner.strictmodes import directory_fault, file_fault

OURS = 1_000


def found(mode: int, uid: int = OURS) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, 0, 0, 0, 0, 0))


REG, DIR = stat.S_IFREG, stat.S_IFDIR


@pytest.mark.parametrize(("mode", "uid"), [(0o755, OURS), (0o500, 0), (0o711, OURS)])
def test_trusted_scripts(mode: int, uid: int) -> None:
    assert file_fault(found(REG | mode, uid), OURS, must_run=True) is None


@pytest.mark.parametrize(
    ("mode", "uid", "text"),
    [
        (REG | 0o775, OURS, "chmod go-w"),
        (REG | 0o757, OURS, "chmod go-w"),
        (REG | 0o755, 33, "belongs to uid 33"),
        (REG | 0o644, OURS, "chmod u\\+x"),
        (stat.S_IFLNK | 0o777, OURS, "symbolic link"),
        (stat.S_IFIFO | 0o755, OURS, "not a regular file"),
        (DIR | 0o755, OURS, "not a regular file"),
    ],
)
def test_refused_scripts(mode: int, uid: int, text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(file_fault(found(mode, uid), OURS, must_run=True))


def test_a_manifest_need_not_be_executable() -> None:
    assert file_fault(found(REG | 0o644), OURS, must_run=False) is None
    assert file_fault(found(REG | 0o664), OURS, must_run=False) is not None


@pytest.mark.parametrize(
    ("mode", "uid", "is_parent", "is_good"),
    [
        (DIR | 0o755, 0, False, True),
        (DIR | 0o1777, 0, True, True),  # /tmp
        (DIR | 0o1777, 0, False, False),
        (DIR | 0o777, 0, True, False),
        (DIR | 0o1777, 33, True, False),
        (DIR | 0o775, OURS, True, False),
        (REG | 0o755, 0, False, False),
    ],
)
def test_directories(mode: int, uid: int, is_parent: bool, is_good: bool) -> None:
    fault = directory_fault(found(mode, uid), OURS, is_parent=is_parent)
    assert (fault is None) is is_good
