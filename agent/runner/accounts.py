"""The account a kind's script runs as: who that is, and whether it may run the file. Reads only."""

from __future__ import annotations

import os
import pwd
import stat
from typing import NamedTuple


class Account(NamedTuple):
    """An account of this machine, resolved."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]  # all of them, the primary one included
    home: str

    def variables(self) -> dict[str, str]:
        """What the environment says of it."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def find_account(name: str) -> Account | None:
    """The account of that name, or None."""
    try:
        found = pwd.getpwnam(name)
        groups = os.getgrouplist(name, found.pw_gid)
    except (KeyError, OSError):
        return None
    home = found.pw_dir or "/"
    return Account(name, found.pw_uid, found.pw_gid, tuple(sorted(set(groups))), home)


def may_run(found: os.stat_result, account: Account) -> bool:
    """Whether the account may read and execute a file: its interpreter opens it once more."""
    if account.uid == 0:
        return True
    if found.st_uid == account.uid:
        needed = stat.S_IRUSR | stat.S_IXUSR
    elif found.st_gid in account.groups:
        needed = stat.S_IRGRP | stat.S_IXGRP
    else:
        needed = stat.S_IROTH | stat.S_IXOTH
    return found.st_mode & needed == needed
