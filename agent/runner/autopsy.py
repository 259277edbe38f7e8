"""Why a main process ended, where its exit status alone does not say: a limit, or a launcher that
could not become the script. Judged by its zombie and its cgroup, before both are gone.
"""

from __future__ import annotations

import signal

from agent.runner import launch
from agent.runner.run import short_message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.runner.processes import Zombie
    from agent.runner.run import Run

_BY_SIGNAL = {signal.SIGXCPU: "cpu_s", signal.SIGXFSZ: "file_bytes"}


def limit_exceeded(
    run: Run, code: int | None, number: int | None, zombie: Zombie | None
) -> str | None:
    """The limit of its manifest that ended it, if any. A success has exceeded none."""
    if code == 0 or not run.limits:
        return None
    if number is not None and number in _BY_SIGNAL:
        name = _BY_SIGNAL[signal.Signals(number)]
        return name if name in run.limits else None
    if run.group is not None and run.group.count("memory.events", "oom_kill"):
        return "memory_bytes"
    if number == signal.SIGKILL and zombie is not None and "cpu_s" in run.limits:
        return "cpu_s" if zombie.cpu_s >= run.limits["cpu_s"] else None
    if run.group is not None and run.group.count("pids.events", "max"):
        return "processes"
    return None


def launch_error(run: Run, code: int | None, zombie: Zombie | None) -> dict[str, str] | None:
    """What the launcher said when it could not execute the script, as a spawn error."""
    if not run.is_launched or zombie is None:
        return None
    if not launch.never_became_the_script(zombie.name, code):
        return None
    said = run.outputs["stderr"].tail.decode("utf-8", "replace").strip().splitlines()
    why = said[-1] if said else f"its launcher ended with code {code}"
    return {"code": "exec_failed", "message": short_message(f"it cannot be executed: {why}")}
