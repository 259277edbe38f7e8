"""Which `agentd` start may speak for a node (DESIGN §6, fencing).

Each start sends a random instance. One never seen before supersedes the current one; a superseded
one is refused for ever: of two clones only the later may write. The newest `SUPERSEDED_MAX` names
are remembered per node; one that is older than that many restarts would pass as new.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ARRAY, Text, bindparam, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.nodes.silence import note_alive
from agent.core.occasion import Occasion
from agent.core.store.horizon import execute_marking, marking
from agent.core.store.notices import announce
from agent.core.store.port import AnyRow
from agent.core.store.schema import agents, superseded
from agent.core.wakeups import agent_topic
from agent.domain.errors import NotFound, Refused, shown
from agent.wire.messages import ERROR_FENCED, ERROR_UNAUTHORIZED, INSTANCE_HEADER
from agent.wire.strict_json import encode_text

INSTANCE = "instance"
EPOCH = "epoch"
SUPERSEDED_MAX = 64
INSTANCE_CHARS_MAX = 64

_AGENT = select(agents).where(agents.c.id == bindparam("agent"))
_AGENT_LOCKED = _AGENT.with_for_update()
# Without its report, which may be large, for what happens all the time.
SPEAKER_COLUMNS = tuple(column for column in agents.c if column.name != "report")
_SPEAKER = select(*SPEAKER_COLUMNS).where(agents.c.id == bindparam("agent"))
_SPEAKER_LOCKED = marking(_SPEAKER).with_for_update()
_SPEAKERS = select(*SPEAKER_COLUMNS).where(
    agents.c.id.in_(select(func.json_each(bindparam("ids")).table_valued("value").c.value))
)
_SPEAKERS_LOCKED = (
    select(*SPEAKER_COLUMNS)
    .where(agents.c.id == func.any(bindparam("ids", type_=ARRAY(Text))))
    .with_for_update(skip_locked=True)
)
_TAKE_OVER = (
    update(agents)
    .where(agents.c.id == bindparam("b_agent"))
    .values(
        instance=bindparam("b_instance"), instance_at=bindparam("b_now"),
        last_seen_at=bindparam("b_now"),
    )
    .returning(*SPEAKER_COLUMNS)
)  # fmt: skip
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


def note_fenced(connection: Connection, occasion: Occasion, agent_id: str, instance: str) -> None:
    """A superseded instance still speaks: two machines share one identity. Both are named."""
    agent = locked_agent_row(connection, agent_id)
    values = {"fenced_count": agents.c.fenced_count + 1, "fenced_at": occasion.now}
    connection.execute(update(agents).where(agents.c.id == agent_id).values(**values))
    body = {"fenced": instance[:INSTANCE_CHARS_MAX], "instance": agent.instance}
    journal.append(connection, occasion, agent_id, journal.NODE_FENCED, body=body)


def agent_row(connection: Connection, agent_id: str) -> AnyRow:
    """The agent. Raises `NotFound`."""
    return _found(connection.execute(_AGENT, {"agent": agent_id}).first(), agent_id)


def locked_agent_row(connection: Connection, agent_id: str) -> AnyRow:
    """`lock_agent` and `agent_row` in one statement: nobody else changes it until the commit."""
    return _found(connection.execute(_AGENT_LOCKED, {"agent": agent_id}).first(), agent_id)


def _found(row: AnyRow | None, agent_id: str) -> AnyRow:
    if row is None:
        raise NotFound(f"there is no node {shown(agent_id)}; corectl agents lists them")
    return row


def may_speak(connection: Connection, agent: AnyRow, instance: str) -> bool:
    """Whether the instance is the current one; False if it is new. Raises `Fenced`, `Refused`."""
    if agent.decommissioned_at is not None:  # its credential is revoked; some may not know it yet
        raise Refused(
            ERROR_UNAUTHORIZED,
            f"the node {agent.id!r} was taken out of service; to enroll it again make a token for "
            f"it: corectl enroll-token --node {agent.id}",
        )
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
    """The agent without its report, with `instance` as the one that speaks, and whether it has
    just taken over.

    Inside a write, whose first lock this is. Raises `Fenced`.
    """
    agent = _locked_speaker(connection, agent_id)
    if may_speak(connection, agent, instance):
        note_alive(connection, occasion, agent)
        return agent, False
    note_alive(connection, occasion, agent)
    if agent.instance is not None:
        supersede(connection, occasion, agent_id, INSTANCE, agent.instance)
    now = {"b_agent": agent_id, "b_instance": instance, "b_now": occasion.now}
    current = connection.execute(_TAKE_OVER, now).one()
    body: dict[str, Any] = {"instance": instance, "previous": agent.instance}
    journal.append(connection, occasion, agent_id, journal.INSTANCE_CHANGED, body=body)
    announce(connection, [agent_topic(agent_id)])  # an open poll of the one before ends with that
    return current, True


def admit_known(connection: Connection, instances: Mapping[str, str]) -> dict[str, AnyRow]:
    """Of these nodes those for which nothing but to let them speak is to be done, locked.

    It waits for nobody: a node that somebody else is changing just now is not among them, and
    neither is one that was silent or out of service, or speaks by another instance than before.
    All of these are for `admit`.
    """
    if connection.dialect.name == "sqlite":
        found = connection.execute(_SPEAKERS, {"ids": encode_text([*instances])})
    else:
        found = connection.execute(_SPEAKERS_LOCKED, {"ids": [*instances]})
    return {
        row.id: row
        for row in found.all()
        if row.instance == instances[row.id]
        and row.silent_at is None
        and row.decommissioned_at is None
    }


def speaker_row(connection: Connection, agent_id: str) -> AnyRow:
    """`agent_row` without the report."""
    return _found(connection.execute(_SPEAKER, {"agent": agent_id}).first(), agent_id)


def _locked_speaker(connection: Connection, agent_id: str) -> AnyRow:
    if connection.dialect.name == "sqlite":
        return speaker_row(connection, agent_id)
    found = execute_marking(connection, _SPEAKER_LOCKED, {"agent": agent_id})
    return _found(found.first(), agent_id)


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
