"""When an action that happens once is due, and until when it may start.

The window is [`from_date`, `to_date`): at `to_date` it is over.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from agent.domain.definition import Definition
from agent.domain.lifecycle import Reason

_LAST = datetime.max.replace(tzinfo=UTC)


def first_due(definition: Definition, accepted_at: datetime) -> datetime:
    """`from_date`, or the moment of acceptance where none is given."""
    return definition.from_date or accepted_at


def latest_start(definition: Definition, accepted_at: datetime) -> datetime | None:
    """The instant from which a first start is too late: the window's end or the start deadline."""
    limits = [definition.to_date] if definition.to_date else []
    if definition.start_deadline_s is not None:
        limits.append(_later(first_due(definition, accepted_at), definition.start_deadline_s))
    return min(limits) if limits else None


def too_late(
    definition: Definition, accepted_at: datetime, attempt: int, now: datetime
) -> Reason | None:
    """Why the action may not start at `now` any more, or None.

    The start deadline is about the first start only; the window bounds every one.
    """
    if definition.to_date is not None and now >= definition.to_date:
        return Reason.WINDOW_CLOSED if attempt else Reason.WINDOW_PASSED
    limit = latest_start(definition, accepted_at)
    if attempt == 0 and limit is not None and now >= limit:
        return Reason.MISSED
    return None


def expiry(definition: Definition, accepted_at: datetime, attempt: int) -> datetime | None:
    """When a waiting action must be ended if it has not started by then."""
    return definition.to_date if attempt else latest_start(definition, accepted_at)


def _later(moment: datetime, span_s: float) -> datetime:
    try:
        return moment + timedelta(seconds=span_s)
    except OverflowError:  # beyond the year 9999
        return _LAST
