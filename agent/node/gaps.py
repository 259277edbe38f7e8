"""Why instants were missed, as far as this life of `agentd` knows: when nothing could be planned.

In memory only, since it decides nothing: it is said in rows of missed instants. Of the life before
two things are durable, the time it kept last and a pause that goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.domain.clock_doubt import decode_mark
from agent.domain.instants import format_instant, parse_instant
from agent.domain.starting import Slots
from agent.node.store.events import Event

GAPS_MAX = 50  # of a runner that comes and goes; older ones are forgotten, and not said
BEGINS_S = 10.0  # so long a runner may need when agentd starts


@dataclass(frozen=True, slots=True)
class Gap:
    """From when to when nothing could be planned, and why."""

    begin: datetime
    end: datetime
    why: str


class Gaps:
    """Told what the engine sees, turn by turn."""

    def __init__(self) -> None:
        self._known: deque[Gap] = deque(maxlen=GAPS_MAX)
        self._free_at: datetime | None = None
        """The latest turn that could plan."""
        self._held: str | None = None
        self._held_at: datetime | None = None

    def begins(self, mark: str, now: datetime) -> None:
        """Take up the mark of the time that the life before this one kept last."""
        kept = decode_mark(mark)
        if kept is None or kept.wall >= now:
            return
        why = (
            f"agentd was not running until {_second(now)} "
            f"(the last time it kept before: {_second(kept.wall)})"
        )
        self._known.append(Gap(kept.wall, now, why))

    def resumed(self, pause: Mapping[str, Any], now: datetime) -> None:
        """The node was paused, with this view of it, up to now."""
        since = pause.get("paused_at")
        if not since:
            return
        by = f" by {pause['paused_by']}" if pause.get("paused_by") else ""
        reason = f": {pause['pause_reason']}" if pause.get("pause_reason") else ""
        begin = parse_instant(since)
        why = f"this node was paused from {_second(begin)} to {_second(now)}{by}{reason}"
        self._known.append(Gap(begin, now, why))

    def turned(self, slots: Slots, now: datetime, doubt: str | None) -> None:
        """One turn, before it plans: whether it may; a pause is told by `resumed`."""
        what = None
        if slots.clock_doubtful:
            what = f"the clock was in doubt ({doubt})" if doubt else "the clock was in doubt"
        elif slots.runner_away:
            what = "agentd had no runner"
        soon = self._held_at is not None and (now - self._held_at).total_seconds() < BEGINS_S
        beginning = self._free_at is None and soon  # belongs to `agentd was not running`
        if self._held is not None and what != self._held and not beginning:
            begin = min(self._free_at or self._held_at or now, now)
            self._known.append(Gap(begin, now, f"{self._held} until {_second(now)}"))
        if what is None and not slots.paused:
            self._free_at = now
        if what != self._held:
            self._held, self._held_at = what, now

    def during(self, first: datetime, last: datetime) -> tuple[str, ...]:
        """What kept the node from planning instants of that range, oldest first."""
        found = (gap.why for gap in self._known if gap.begin <= last and gap.end >= first)
        return tuple(dict.fromkeys(found))


def _second(moment: datetime) -> str:
    return format_instant(moment.replace(microsecond=0))


def no_gaps(_first: datetime, _last: datetime) -> tuple[str, ...]:
    """Nothing is known."""
    return ()


def paused_during(told: Sequence[Event], first: datetime) -> tuple[str, ...]:
    """The pause that a rule's newest events tell of, if it ended after that instant was due."""
    states = [(one.at, one.body["recurring"]) for one in told if one.body.get("recurring")]
    ends_at = None
    while states and not states[-1][1].get("paused"):
        ends_at = states.pop()[0]
    if not states or ends_at is None or ends_at < first:
        return ()
    why = states[-1][1]["paused"]
    begins_at = states[-1][0]
    while states and states[-1][1].get("paused"):
        begins_at = states.pop()[0]
    span = f"from {_second(begins_at)} to {_second(ends_at)}"
    return (f"the recurring action was paused {span}: {why}",)
