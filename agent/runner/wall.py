"""Whether the wall clock is to be believed where a window ends by it while `agentd` is away.

`agentd` judges the clock and lifts the windows of what runs while it is in doubt. Where it is not
there, or is slower than our next look, this much is judged here: a clock that leaps far ahead,
while the kernel's clock that also counts suspend does not, ends nothing for a while.
"""

from __future__ import annotations

import time

from agent.runner.limits import WALL_DOUBT_S, WALL_LEAP_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def read_boottime() -> float:
    """Seconds since the boot, suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Wall:
    """What was believed last. To be asked every second while something runs."""

    def __init__(
        self,
        now: Callable[[], float] = time.time,
        boottime: Callable[[], float] = read_boottime,
    ) -> None:
        self._now = now
        self._boottime = boottime
        self._doubted_since: float | None = None
        self.confirm()

    def confirm(self) -> None:
        """Somebody who judges the clock better acts by it: what it says now is right."""
        self._offset = self._now() - self._boottime()
        self._doubted_since = None

    def is_believed(self) -> bool:
        """False for `WALL_DOUBT_S` after it has leapt ahead, or until it has been set back."""
        boottime = self._boottime()
        if self._now() - boottime - self._offset > WALL_LEAP_S:
            if self._doubted_since is None:
                self._doubted_since = boottime
            if boottime - self._doubted_since < WALL_DOUBT_S:
                return False
        self.confirm()
        return True
