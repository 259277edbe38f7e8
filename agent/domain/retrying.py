"""What a retry by hand asks for: the same thing again, as a new action (DESIGN §6). Pure.

Final stays final, so it is another action with an id of its own that says which one it repeats.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from agent.domain.definition import Approval, Definition, Owner


def retried(definition: Definition, now: datetime, approval: Approval | None = None) -> Definition:
    """The definition of the new action; its id is still the old one's, to be replaced.

    What lies ahead of the window stays, what has passed is dropped: asked for now means now. An
    approval was given for the old one, so it is not taken along; nor is the place in a schedule.
    """
    return replace(
        definition,
        owner=Owner.NODE,
        revision=1,
        should_be_executed=True,
        from_date=_ahead(definition.from_date, now),
        to_date=_ahead(definition.to_date, now),
        approval=approval,
        created_at=None,
        requester=None,
        schedule=None,
        recurring_id=None,
        nominal_at=None,
        retry_of=definition.id,
    )


def _ahead(moment: datetime | None, now: datetime) -> datetime | None:
    return moment if moment is not None and moment > now else None
