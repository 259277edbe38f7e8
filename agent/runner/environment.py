"""What a script gets besides its payload: a clean environment. Nothing of the runner's own."""

from __future__ import annotations

import os
import pwd

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def base_environment() -> dict[str, str]:
    """The part that is the same for all runs: whose account it is, and a fixed PATH."""
    try:
        account = pwd.getpwuid(os.getuid())
        name, home = account.pw_name, account.pw_dir
    except KeyError:  # a container without an entry for this uid
        name, home = str(os.getuid()), "/"
    return {"PATH": PATH, "HOME": home, "USER": name, "LOGNAME": name, "LANG": "C.UTF-8"}


def run_environment(
    base: dict[str, str],
    action_id: str,
    kind: str,
    attempt: int,
    dry_run: bool,
    script: str,
    progress: str,
    account: dict[str, str],
) -> dict[str, str]:
    """The whole environment of one run; `account` says whose it is, where not the runner's."""
    return {
        **base,
        **account,
        "AGENT_ACTION_ID": action_id,
        "AGENT_KIND": kind,
        "AGENT_ATTEMPT": str(attempt),
        "AGENT_DRY_RUN": "1" if dry_run else "0",
        "AGENT_SCRIPT": script,
        "AGENT_PROGRESS": progress,
    }
