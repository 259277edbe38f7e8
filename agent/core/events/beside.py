"""Looking up beside events what filters ask of their actions and nodes: two queries per page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from agent.core.events.filter import NOTHING, Beside, EventFilter
from agent.core.nodes.selection import labels_of
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions
from agent.domain.labels import NODE_LABEL

_ACTIONS = select(actions.c.agent_id, actions.c.id, actions.c.kind, actions.c.correlation_id).where(
    actions.c.agent_id.in_(bindparam("agents", expanding=True)),
    actions.c.id.in_(bindparam("ids", expanding=True)),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What any of some filters needs."""

    of_action: bool = False
    of_labels: bool = False

    @classmethod
    def by(cls, filters: Iterable[EventFilter]) -> Asked:
        """All of them together."""
        some = list(filters)
        return cls(
            any(one.asks_for_action for one in some), any(one.asks_for_labels for one in some)
        )


def look_beside(connection: Connection, rows: Sequence[AnyRow], asked: Asked) -> list[Beside]:
    """One per row."""
    if not rows or not (asked.of_action or asked.of_labels):
        return [NOTHING] * len(rows)
    known = _actions_of(connection, rows) if asked.of_action else {}
    nodes = sorted({row.agent_id for row in rows if row.agent_id})
    found = labels_of(connection, nodes) if asked.of_labels else {}
    labels = {node: {**found.get(node, {}), NODE_LABEL: node} for node in nodes}
    return [
        Beside(
            *known.get((row.agent_id, row.action_id), (None, None)), labels.get(row.agent_id, {})
        )
        for row in rows
    ]


def _actions_of(
    connection: Connection, rows: Sequence[AnyRow]
) -> Mapping[tuple[str, str], tuple[str | None, str | None]]:
    """Kind and correlation by node and action id."""
    ids = sorted({row.action_id for row in rows if row.action_id})
    nodes = sorted({row.agent_id for row in rows if row.action_id})
    if not ids:
        return {}
    found = connection.execute(_ACTIONS, {"agents": nodes, "ids": ids})
    return {(row.agent_id, row.id): (row.kind or None, row.correlation_id) for row in found}
