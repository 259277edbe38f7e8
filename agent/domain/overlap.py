"""What becomes of an occurrence that falls due while earlier ones of its rule have not ended. Pure.

Two occurrences of one recurring action never run at once, unless it says `allow`: a lock derived
from what runs, as for `app_names`, whatever else is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.domain.schedule.spec import Overlap

QUEUED_PER_RULE_MAX = 100  # of one rule: what falls behind for ever must not fill the database


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """An occurrence that has not ended. `regular`: by the schedule, not run now or backfilled.

    `ahead`: it waits for its delay (`after`): it has not begun, and is in nobody's way yet.
    """

    row: int
    id: str
    started: bool
    regular: bool
    ahead: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`why` the new one ends unstarted (None: it waits its turn); `ends` are rows."""

    why: str | None = None
    ends: tuple[int, ...] = ()


def decide_overlap(
    overlap: Overlap, earlier: Sequence[Open], *, catch_up: bool, late_max: int = 0
) -> Decision:
    """Whether it may wait, and who makes way.

    Backfilled occurrences that wait hold nobody up: they take their turn like everything else. A
    late one (`catch_up`) queues behind the others, as does the one on time that comes with late
    ones, or `catch_up: all` would only ever run one; so many of the late ones may wait as the
    schedule says (`late_max`) and that one, if that is more than of others.

    Nobody is stopped here: what runs goes on until the new one could start in its place, which a
    brake or a pause may keep it from (`agent.node.displacing`).
    """
    running = [one for one in earlier if one.started]
    waiting = [one for one in earlier if one.regular and not one.started]
    due = [one for one in waiting if not one.ahead]
    if overlap is Overlap.SKIP and not catch_up and (running or due):
        return Decision(why=_in_the_way((running or due)[0]))
    replaced = due if overlap is Overlap.CANCEL_RUNNING and not catch_up else []
    most = max(QUEUED_PER_RULE_MAX, late_max + 1) if catch_up else QUEUED_PER_RULE_MAX
    if len(waiting) - len(replaced) >= most:
        return Decision(
            why=f"{len(waiting)} earlier occurrences wait already; no more than "
            f"{most} of one recurring action do"
        )
    return Decision(ends=tuple(one.row for one in replaced))


def _in_the_way(earlier: Open) -> str:
    return f"{earlier.id} {'still runs' if earlier.started else 'has not started yet'}"
