"""Taking a node out of service: nothing of it is believed any more, and nothing waits for it.

Its credentials end with the same commit. What it had not started is withdrawn; what it had started,
and what was its own, is LOST: nobody will tell how it ended. Its row stays, for its history, out of
every selection. A token that is made for it brings it back, as the same node: what was withdrawn
stays withdrawn (and is told to it), what was lost is found again if its state has it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from agent.core import journal, timers
from agent.core.actions.cancelling import STOP, Cancel, cancel_all, decide_cancel
from agent.core.actions.phases import phase_at_core
from agent.core.nodes import freezes
from agent.core.nodes.admission import agent_row
from agent.core.nodes.silence import REASON_DECOMMISSIONED, mark_lost
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.store.locks import IDS_PER_QUERY, lock_agent
from agent.core.store.notices import announce
from agent.core.store.port import AnyRow
from agent.core.store.schema import (
    actions,
    agents,
    credentials,
    deliveries,
    enrollment_tokens,
    requests,
)
from agent.core.timers import TimerKind
from agent.core.wakeups import agent_topic, credential_topic
from agent.domain.definition import Owner
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.phase import ENDED


def decommission(
    connection: Connection, occasion: Occasion, agent_id: str, by: str, reason: str
) -> list[str]:
    """Take it out of service; the actions that this ended. Twice is once. Raises `NotFound`."""
    lock_agent(connection, agent_id)
    agent = agent_row(connection, agent_id)
    if agent.decommissioned_at is not None:
        return []
    _revoke(connection, occasion, agent_id)
    withdrawn = _withdraw_all(connection, occasion, agent_id, by, reason)
    lost = mark_lost(connection, occasion, [agent_id], REASON_DECOMMISSIONED)
    _empty_stream(connection, occasion, agent_id)
    announce(connection, [agent_topic(agent_id)])  # its open poll ends, whichever core holds it
    freezes.forget_node(connection, agent_id)
    timers.disarm(connection, TimerKind.NODE_SILENT, agent_id)
    timers.disarm(connection, TimerKind.NODE_LOST, agent_id)
    body = {"reason": reason, "requested_by": by, "withdrawn": len(withdrawn), "lost": len(lost)}
    journal.append(connection, occasion, agent_id, journal.DECOMMISSIONED, body=body)
    audit.record(connection, occasion, by, "decommission", agent_id, body)
    return sorted({*withdrawn, *lost})


def bring_back(connection: Connection, occasion: Occasion, agent: AnyRow) -> None:
    """It is enrolled again: in service, with nothing known of what it holds."""
    freezes.forget_node(connection, agent.id)
    connection.execute(
        update(agents).where(agents.c.id == agent.id).values(decommissioned_at=None, report=None)
    )
    if agent.decommissioned_at is not None:
        timers.arm(connection, TimerKind.NODE_SILENT, agent.id, occasion.now)


def _revoke(connection: Connection, occasion: Occasion, agent_id: str) -> None:
    connection.execute(delete(credentials).where(credentials.c.agent_id == agent_id))
    announce(connection, [credential_topic(agent_id)])
    unused = (enrollment_tokens.c.agent_id == agent_id) | (enrollment_tokens.c.used_for == agent_id)
    connection.execute(delete(enrollment_tokens).where(unused))
    connection.execute(
        update(agents)
        .where(agents.c.id == agent_id)
        .values(decommissioned_at=occasion.now, silent_at=None)
    )


def _withdraw_all(
    connection: Connection, occasion: Occasion, agent_id: str, by: str, reason: str
) -> list[str]:
    """Everything of the core's that it has not started, as a cancel by hand would do it."""
    asked = Cancel(by=by, reason=f"node decommissioned: {reason}", if_started=STOP)
    found: list[str] = []
    after = 0
    while rows := _waiting(connection, agent_id, after):
        open_ones = [row for row in rows if phase_at_core(row, occasion.now) not in ENDED]
        decided = [(row, decide_cancel(row, asked)) for row in open_ones]
        cancel_all(connection, occasion, decided, asked)
        found += [row.id for row in open_ones]
        after = rows[-1].row
    return found


def _waiting(connection: Connection, agent_id: str, after: int) -> list[Any]:
    query = (
        select(actions, agents.c.silent_at, agents.c.acked_seq)
        .join(agents, agents.c.id == actions.c.agent_id)
        .where(
            actions.c.agent_id == agent_id,
            actions.c.status == ExecutionStatus.NULL.value,
            actions.c.owner == Owner.CORE.value,
            actions.c.definition.is_not(None),
            actions.c.wanted.is_(True),
            actions.c.row > after,
        )
        .order_by(actions.c.row)
        .limit(IDS_PER_QUERY)
    )
    return list(connection.execute(query).all())


def _empty_stream(connection: Connection, occasion: Occasion, agent_id: str) -> None:
    """Nothing is on its way any more. A new epoch: whoever comes back gets everything anew."""
    connection.execute(
        update(agents)
        .where(agents.c.id == agent_id)
        .values(
            stream_epoch=occasion.new_mark(),
            acked_seq=agents.c.head_seq,
            acked_mark=occasion.new_mark(),
        )
    )
    connection.execute(delete(deliveries).where(deliveries.c.agent_id == agent_id))
    connection.execute(
        delete(requests).where(requests.c.agent_id == agent_id, requests.c.acked_at.is_(None))
    )
