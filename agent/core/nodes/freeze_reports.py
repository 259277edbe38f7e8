"""What a node's report says of freezes: which arrived, which its owner lifted, which it should not
hold. Inside the write that keeps the report, which has the node's lock and a share of `LOCK`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.nodes.freeze_views import Frozen
from agent.core.nodes.fresh import skew_ms
from agent.core.nodes.stream import Asked, enqueue_requests
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow
from agent.core.store.schema import freeze_nodes, freezes
from agent.wire.messages import THAW, NodeReport

STRAYS_MAX = 100  # as many as a node holds (agent.domain.brake.FREEZES_MAX)

_MEMBERS = select(freeze_nodes).where(freeze_nodes.c.agent_id == bindparam("agent"))
_STRAYS = (
    select(freezes.c.id)
    .where(
        freezes.c.id.in_(bindparam("held", expanding=True)),
        freezes.c.id.not_in(
            select(freeze_nodes.c.freeze_id).where(freeze_nodes.c.agent_id == bindparam("agent"))
        ),
        # What expires by itself is left to that.
        or_(freezes.c.expires_at.is_(None), freezes.c.expires_at > bindparam("now")),
    )
    .order_by(freezes.c.row)
)


def note_held(
    connection: Connection, occasion: Occasion, agent_id: str, report: NodeReport
) -> None:
    """What the node says that it holds: a freeze arrived, or was lifted there by its owner."""
    held = _held(report)
    for member in connection.execute(_MEMBERS, {"agent": agent_id}).all():
        if member.freeze_id in held:
            if member.state != Frozen.FROZEN:
                _set_state(connection, occasion, member, Frozen.FROZEN)
        elif member.state == Frozen.FROZEN:
            _lifted_there(connection, occasion, member, _by_its_clock(report, occasion.now))


def thaw_strays(
    connection: Connection, occasion: Occasion, agent_id: str, report: NodeReport
) -> bool:
    """What it holds and should not: thawed while it was out of service, or put back with a backup.

    True if it is to be woken. One that nobody here has heard of is for its owner to lift.
    """
    held = sorted(_held(report))[:STRAYS_MAX]
    if not held:
        return False
    given: dict[str, Any] = {"agent": agent_id, "held": held, "now": occasion.now}
    found = list(connection.execute(_STRAYS, given).scalars())
    for freeze_id in found:
        asked = Asked(THAW, by="core", args={"freeze": freeze_id})
        enqueue_requests(connection, occasion, [agent_id], asked)
    return bool(found)


def _held(report: NodeReport) -> set[str]:
    found = (brake.get("freeze") for brake in report.brakes)
    return {freeze for freeze in found if isinstance(freeze, str)}


def _by_its_clock(report: NodeReport, now: datetime) -> datetime:
    """The later of both clocks: a freeze ends by the node's, whatever that is."""
    return now + timedelta(milliseconds=max(0, min(skew_ms(report, now) or 0, _AHEAD_MS_MAX)))


_AHEAD_MS_MAX = 366 * 86_400_000  # a clock that is wrong by more ends no freeze by being wrong


def _lifted_there(
    connection: Connection, occasion: Occasion, member: AnyRow, now: datetime
) -> None:
    row = connection.execute(select(freezes).where(freezes.c.id == member.freeze_id)).first()
    if row is None or (row.expires_at is not None and row.expires_at <= now):
        return  # its time was over
    _set_state(connection, occasion, member, Frozen.LIFTED_ON_NODE)
    body = {"freeze_id": row.id, "selector": row.selector}
    journal.append(connection, occasion, member.agent_id, journal.FREEZE_LIFTED_ON_NODE, body=body)


def _set_state(connection: Connection, occasion: Occasion, member: AnyRow, state: Frozen) -> None:
    connection.execute(
        update(freeze_nodes)
        .where(
            freeze_nodes.c.agent_id == member.agent_id,
            freeze_nodes.c.freeze_id == member.freeze_id,
        )
        .values(state=state.value, at=occasion.now)
    )
