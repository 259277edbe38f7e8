"""What planning a rule says: runs, misses, the state to keep. Values only; aware UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

LATE_S_MAX = 60.0  # later than this also the newest is missed, not merely late


class Why(StrEnum):
    """Why missed instants are not run."""

    POLICY = "policy"
    AGE = "age"
    COUNT = "count"
    WINDOW = "window"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One planned occurrence. `starts_at` has the jitter; `ends_at` is its window's end."""

    nominal_at: datetime
    starts_at: datetime
    ends_at: datetime | None = None
    catch_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Instants that will never run, from `first` to `last`; `why` is a sentence, `cause` its word.

    `counted_all` False: there are at least `count` (the range is longer than is counted).
    """

    first: datetime
    last: datetime
    count: int
    counted_all: bool = True
    cause: Why = Why.POLICY
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a node keeps of one rule. `anchor_at` is what intervals are counted from."""

    anchor_at: datetime
    last_nominal_at: datetime | None = None
    run_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is due, what was missed, what comes next; `after` is the state to commit with them.

    `exhausted` says why there is no next: `once`, `ends_at`, `to_date`, `max_runs`. Without it and
    without `next` the rule waits for an end (`after`, or an interval counted from completion).
    """

    runs: tuple[Planned, ...] = ()
    missed: tuple[Missed, ...] = ()
    next: Planned | None = None
    exhausted: str | None = None
    after: State

    @property
    def last_nominal_at(self) -> datetime | None:
        """The new watermark."""
        return self.after.last_nominal_at
