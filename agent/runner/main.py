"""The command `agent-runner`: options, directories, lock; everything else is in daemon.py.

Exit codes: 0 told to stop or no longer needed, 1 could not start, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys

from agent.runner.daemon import Daemon
from agent.runner.journal import Journal
from agent.runner.lock import Locked, take_lock
from agent.runner.options import BadOptions, read_options
from agent.runner.server import SocketTaken
from agent.runner.upgrade import take_over

FAILED = 1
USAGE = 2


def main() -> None:
    """Run until told to stop."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of a runner with these arguments."""
    try:
        options = read_options(arguments, os.environ)
    except BadOptions as error:
        for fault in str(error).splitlines():
            sys.stderr.write(f"agent-runner: {fault}\n")
        return USAGE
    journal = Journal()
    try:
        os.makedirs(options.state_dir, mode=0o700, exist_ok=True)
        # passable: a script of another account finds its progress file there, and nothing else
        os.makedirs(options.runs_dir, mode=0o711, exist_ok=True)
        handed = take_over(os.environ)
        handed["lock"] = take_lock(options.runs_dir, handed=handed.get("lock"))
        Daemon(options, journal, handed).run()
    except (Locked, SocketTaken, OSError) as error:
        journal.write("failed", error=str(error))
        sys.stderr.write(f"agent-runner: {error}\n")
        return FAILED
    return 0


if __name__ == "__main__":
    main()
