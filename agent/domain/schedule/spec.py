"""The rule of a recurring action as a value (DESIGN §3, "Recurring").

Values only. Decoding from JSON is in `agent.wire.schedule`, the arithmetic in the other files here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

CATCH_UP_AGE_S_DEFAULT = 86_400.0  # "latest within a day"
CATCH_UP_COUNT_DEFAULT = 100


class Overlap(StrEnum):
    """What to do when an occurrence falls due while an earlier one has not ended."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL_RUNNING = "cancel_running"
    ALLOW = "allow"


class CatchUpMode(StrEnum):
    """Which of the missed instants are run late."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


class CountFrom(StrEnum):
    """What an interval is counted from: the instant before, or the end of the run before."""

    START = "start"
    COMPLETION = "completion"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUp:
    """The policy and its two bounds; older misses, and more of them, are only told."""

    mode: CatchUpMode = CatchUpMode.LATEST
    max_age_s: float = CATCH_UP_AGE_S_DEFAULT
    max_count: int = CATCH_UP_COUNT_DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Exactly one of `cron`, `every`, `at`, `date`, `after` says when; the rest how.

    `date` beside one of the first three is not another "when" but the first instant (bree's way).
    `delay_s` alone is an instant too: so long after the anchor. `cron`, `every` and `at` keep the
    words they were given in (people read them again). `after` names an action or recurring action
    of this node: one occurrence follows each time it has finished. `timezone` None means the
    node's own. `duration_s` makes each occurrence a window; `jitter_s` bounds an offset that is
    stable per node and recurring action.
    """

    cron: str | None = None
    every: str | None = None
    at: str | None = None
    date: datetime | None = None
    after: str | None = None
    timezone: str | None = None
    duration_s: float | None = None
    jitter_s: float | None = None
    delay_s: float | None = None
    """bree's `timeout`: the first instant is this long after the anchor (`every`, or once)."""
    ends_at: datetime | None = None
    max_runs: int | None = None
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = field(default_factory=CatchUp)
    count_from: CountFrom = CountFrom.START
    paused: bool = False
    """The owner's own pause; a node may pause it besides, and both must be lifted."""
    paused_reason: str | None = None
