"""Which `agentd` start may speak for a node (DESIGN §6, fencing).

Each start sends a random instance. One never seen before supersedes the current one; a superseded
one is refused for ever: of two clones only the later may write. The newest `SUPERSEDED_MAX` names
are remembered per node; one that is older than that many restarts would pass as new.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow
from agent.core.store.schema import agents, superseded
from agent.domain.errors import NotFound, Refused, shown
from agent.wire.messages import ERROR_FENCED, INSTANCE_HEADER

INSTANCE = "instance"
EPOCH = "epoch"
SUPERSEDED_MAX = 64
INSTANCE_CHARS_MAX = 64

_AGENT = select(agents).where(agents.c.id == bindparam("agent"))
_WAS_SUPERSEDED = select(superseded.c.at).where(
    superseded.c.agent_id == bindparam("agent"),
    superseded.c.what == bindparam("what"),
    superseded.c.value == bindparam("value"),
)


class Fenced(Refused):
    """Another instance has taken over."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(
            ERROR_FENCED,
            f"another agentd has taken over as {agent_id!r} since this one started; if two "
            "machines share one state directory's copy, enroll one of them anew",
        )


def agent_row(connection: Connection, agent_id: str) -> AnyRow:
    """The agent. Raises `NotFound`."""
    row = connection.execute(_AGENT, {"agent": agent_id}).first()
    if row is None:
        raise NotFound(f"there is no node {shown(agent_id)}; corectl agents lists them")
    return row


def may_speak(connection: Connection, agent: AnyRow, instance: str) -> bool:
    """Whether the instance is the current one; False if it is new. Raises `Fenced`, `Refused`."""
    if not 1 <= len(instance) <= INSTANCE_CHARS_MAX:
        raise Refused(
            "bad_request",
            f"the header {INSTANCE_HEADER} must name this start of agentd in 1 to "
            f"{INSTANCE_CHARS_MAX} random characters",
        )
    if instance == agent.instance:
        return True
    if was_superseded(connection, agent.id, INSTANCE, instance):
        raise Fenced(agent.id)
    return False


def admit(
    connection: Connection, occasion: Occasion, agent_id: str, instance: str
) -> tuple[AnyRow, bool]:
    """The agent, with `instance` as the one that speaks, and whether it has just taken over.

    Inside a write. Raises `Fenced`.
    """
    agent = agent_row(connection, agent_id)
    if may_speak(connection, agent, instance):
        return agent, False
    if agent.instance is not None:
        supersede(connection, occasion, agent_id, INSTANCE, agent.instance)
    connection.execute(
        update(agents)
        .where(agents.c.id == agent_id)
        .values(instance=instance, instance_at=occasion.now, last_seen_at=occasion.now)
    )
    body: dict[str, Any] = {"instance": instance, "previous": agent.instance}
    journal.append(connection, occasion, agent_id, journal.INSTANCE_CHANGED, body=body)
    return agent_row(connection, agent_id), True


def was_superseded(connection: Connection, agent_id: str, what: str, value: str) -> bool:
    """Whether this instance or epoch was current once and is no longer."""
    found = connection.execute(_WAS_SUPERSEDED, {"agent": agent_id, "what": what, "value": value})
    return found.first() is not None


def supersede(
    connection: Connection, occasion: Occasion, agent_id: str, what: str, value: str
) -> None:
    """Remember that this one is never current again; forget the oldest beyond the bound."""
    mine = (superseded.c.agent_id == agent_id, superseded.c.what == what)
    connection.execute(
        insert(superseded),
        [{"agent_id": agent_id, "what": what, "value": value, "at": occasion.now}],
    )
    newest = select(superseded.c.value).where(*mine).order_by(superseded.c.at.desc())
    too_old = connection.execute(newest.offset(SUPERSEDED_MAX).limit(1000)).scalars().all()
    if too_old:
        connection.execute(delete(superseded).where(*mine, superseded.c.value.in_(too_old)))
