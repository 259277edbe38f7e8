"""What dispatches were judged by, looked at again behind the locks: a report may have come since.

A node that was taken out of service gets nothing; one whose kind is another now (its risk, above
all) was judged by what is not true any more. Nothing is judged anew here: the dispatch is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from agent.core.actions.planning import Plan
from agent.core.nodes.selection import facts_of
from agent.core.store.locks import IDS_PER_QUERY
from agent.core.store.schema import agents
from agent.domain.errors import Fault

GONE = Fault("node", "the node was just taken out of service")
CHANGED = Fault("kind", "the node's catalogue has just changed; dispatch it again")
_IDS: Any = bindparam("ids", expanding=True)
_REPORTED = select(agents.c.id, agents.c.report_at).where(
    agents.c.id.in_(_IDS), agents.c.decommissioned_at.is_(None)
)


def what_changed(connection: Connection, plans: Sequence[Plan]) -> dict[str, Fault]:
    """What speaks against these plans by now, by the id of the action; the others may be stored."""
    reported = _reported(connection, sorted({plan.node for plan in plans}))
    # Few: only a node that has reported since, and most reports are about progress.
    news = {plan.node for plan in plans if reported.get(plan.node) != plan.reported_at}
    told = {facts.id: facts.kinds or {} for facts in facts_of(connection, sorted(news))}
    found: dict[str, Fault] = {}
    for plan in plans:
        if plan.node not in reported:
            found[plan.definition.id] = GONE
        elif plan.node in told and told[plan.node].get(plan.definition.kind) != plan.kind:
            found[plan.definition.id] = CHANGED
    return found


def _reported(connection: Connection, nodes: Sequence[str]) -> dict[str, datetime | None]:
    """When each of those that are in service reported last."""
    found: dict[str, datetime | None] = {}
    for start in range(0, len(nodes), IDS_PER_QUERY):
        some = nodes[start : start + IDS_PER_QUERY]
        found |= {row.id: row.report_at for row in connection.execute(_REPORTED, {"ids": some})}
    return found
