"""How a recurring action stands on its node: what the newest report of it says, and its phase.

It has no execution status of its own; what its node says of it, by itself and with each occurrence,
is kept in `actions.standing` as it came. The phase is judged here, where it is shown: a filter by
phase in the database still finds an ended one under SCHEDULED, and the list leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection

from agent.core.store.port import AnyRow
from agent.core.store.schema import events
from agent.domain.phase import Phase
from agent.domain.recurring import Ended
from agent.wire.messages import LOCAL_DEFINITION

_decode = msgspec.json.Decoder().decode
_CANCELS = frozenset({Ended.WITHDRAWN.value, Ended.CANCELLED_ON_NODE.value})


def standing_of(connection: Connection, row: AnyRow) -> dict[str, Any] | None:
    """The node's half of a recurring action as it was reported last; None of anything else."""
    if row.standing:
        found: dict[str, Any] = _decode(row.standing)
        return found
    if not row.definition or _decode(row.definition).get("schedule") is None:
        return None
    # Told before the column was there: as long as the event is kept.
    query = (
        select(events.c.body)
        .where(
            events.c.agent_id == row.agent_id,
            events.c.action_id == row.id,
            events.c.type == LOCAL_DEFINITION,
        )
        .order_by(events.c.id.desc())
        .limit(1)
    )
    body = connection.execute(query).scalar()
    told = _decode(body).get("recurring") if body else None
    return told if isinstance(told, dict) else None


def phase_standing(phase: Phase, standing: Mapping[str, Any] | None) -> Phase:
    """The phase of a recurring action: SCHEDULED only as long as something may still come of it."""
    may_come = phase in (Phase.SCHEDULED, Phase.NODE_SILENT)
    if not may_come or standing is None or standing.get("state") != "ended":
        return phase
    reason = standing.get("ended_reason")
    if reason in _CANCELS:
        return Phase.CANCELLED
    ran = bool(standing.get("run_count")) and reason != Ended.NOT_FINISHED.value
    return Phase.DONE if ran else Phase.NOT_STARTED
