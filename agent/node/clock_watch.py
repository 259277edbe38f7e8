"""The engine's view of the clock: looks at it once per turn and remembers what was believed.

What to believe is decided in `agent.domain.clock_doubt`; while it is doubted this looks again now
and then, because the kernel tells nobody when it has been synchronised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from agent.domain.clock_doubt import (
    Belief,
    CoreDate,
    Doubt,
    Moment,
    Reading,
    counted_on,
    decode_mark,
    encode_mark,
    judge,
    moment,
)
from agent.domain.instants import format_instant
from agent.infra.clock import NodeClock
from agent.node import log_events

LOOK_AGAIN_S = 10.0  # only while in doubt, so for ten minutes at most
MARK_EVERY_S = 60.0  # how old the durable mark may be; it is written with other changes only


class ClockWatch:
    """One reading per turn, and what follows from it. `wake` asks for another turn."""

    def __init__(self, clock: NodeClock, wake: Callable[[], None], log: Any) -> None:
        self._clock = clock
        self._wake = wake
        self._log = log
        self._again: asyncio.TimerHandle | None = None
        self._belief = Belief()
        self._core: CoreDate | None = None
        self._kept_s: float | None = None
        self._reading: Reading | None = None
        self.stepped_s = 0.0
        """By how much the clock was set since the last turn that was committed."""
        self.corrected_s: float | None = None
        """By how much what is believed since then differs from what was counted on before."""

    def begin(self, mark: str) -> None:
        """Take up what an earlier life believed last."""
        self._belief = Belief(mark=decode_mark(mark))

    def look(self) -> bool:
        """Read the clock once more; whether a doubt began or ended by it."""
        before, mark, was_believed = self._belief.doubt, self._belief.mark, self.is_believed
        self._reading = self._clock.reading()
        self._belief = belief = judge(self._belief, self._reading, self._core)
        if belief.doubt is None and not was_believed:
            counted = self._reading.wall if mark is None else counted_on(mark, self._reading)
            self.corrected_s = (self._reading.wall - counted).total_seconds()
        self.stepped_s += belief.stepped_s
        if belief.doubt is not None:
            self._look_again()
            if before is None:
                self._log.warning(log_events.CLOCK_DOUBTFUL, why=belief.doubt.why)
        elif belief.settled is not None:
            self._log.info(log_events.CLOCK_TRUSTED, because=belief.settled.value)
        return (before is None) is not (belief.doubt is None)

    def _look_again(self) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._wake)

    def now(self) -> datetime:
        """The wall clock of the latest look."""
        return self._clock.now() if self._reading is None else self._reading.wall

    def moment(self) -> Moment:
        """What time it is for recurring actions, at this very moment; from any thread."""
        return moment(self._belief, self._clock.reading(), self._core)

    @property
    def is_believed(self) -> bool:
        """Whether the clock was looked at and is not in doubt."""
        return self._reading is not None and self._belief.doubt is None

    def why_in_doubt(self) -> str | None:
        """The doubt in words, or None."""
        return None if self._belief.doubt is None else self._belief.doubt.why

    @property
    def doubt(self) -> Doubt | None:
        """The doubt, while there is one."""
        return self._belief.doubt

    def mark_to_keep(self) -> str:
        """What the next change of the database is to keep; empty while that is fresh enough."""
        mark = self._belief.mark
        if mark is None or self._belief.doubt is not None:
            return ""
        if self._kept_s is not None and mark.boottime_s - self._kept_s < MARK_EVERY_S:
            return ""
        return encode_mark(mark)

    @property
    def is_mark_owed(self) -> bool:
        """Whether this life has kept none yet: one is kept even if nothing else changes.

        Else a node that was idle until its clock leapt would believe it after a restart.
        """
        return self._kept_s is None

    def acted(self, *, changed: bool) -> None:
        """A turn that took `mark_to_keep` and `stepped_s` along is committed."""
        self.stepped_s, self.corrected_s = 0.0, None
        kept = changed or self.is_mark_owed
        if kept and self._belief.mark is not None and self.mark_to_keep():
            self._kept_s = self._belief.mark.boottime_s

    def core_says(self, date: datetime) -> bool:
        """A date from the core; whether that is of interest now."""
        self._core = CoreDate(wall=date, boottime_s=self._clock.reading().boottime_s)
        return self._belief.doubt is not None

    def view(self) -> dict[str, Any]:
        """As `status` and the node report show it."""
        doubt, reading = self._belief.doubt, self._reading
        view: dict[str, Any] = {
            "state": "trusted" if doubt is None else "doubtful",
            "synchronised": reading is not None and reading.synchronised,
            "since": None,
            "why": None,
            "until": None,
        }
        if doubt is not None and reading is not None:
            until = reading.wall + timedelta(seconds=doubt.left_s(reading))
            view |= {
                "since": format_instant(doubt.since),
                "why": doubt.why,
                "until": format_instant(until),
            }
        return view
