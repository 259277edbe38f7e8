"""Which nodes a selector means, found by the index of labels; and what is known of them.

A node that was taken out of service is none of them. A requirement that must be met is a look
into `agent_labels_of_key`; one that must not be met is a look by node for each candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, bindparam, exists, false, not_, select, true
from sqlalchemy.engine import Connection

from agent.core.nodes.facts import KindFacts, NodeFacts
from agent.core.nodes.selector import Operator, Requirement, Selector
from agent.core.store.locks import IDS_PER_QUERY
from agent.core.store.port import AnyRow
from agent.core.store.schema import agent_labels, agents
from agent.domain.definition import RiskLevel
from agent.domain.labels import NODE_LABEL

# Built once: every dispatch asks both, and building costs more than asking.
_IDS: Any = bindparam("ids", expanding=True)
_REPORTS = select(agents.c.id, agents.c.report, agents.c.report_at, agents.c.silent_at).where(
    agents.c.id.in_(_IDS), agents.c.decommissioned_at.is_(None)
)
_IN_SERVICE = select(agents.c.id).where(agents.c.id.in_(_IDS), agents.c.decommissioned_at.is_(None))
_LABELS = (
    select(agent_labels.c.agent_id, agent_labels.c.key, agent_labels.c.value)
    .where(agent_labels.c.agent_id.in_(_IDS))
    .order_by(agent_labels.c.agent_id, agent_labels.c.key)
)
CATALOGUES_KNOWN_MAX = 64  # nodes of one fleet share few; each is decoded once


def select_nodes(
    connection: Connection, selector: Selector, limit: int, after: str = ""
) -> list[str]:
    """The ids of the nodes it means, by name; at most `limit` of those behind `after`."""
    query = (
        select(agents.c.id)
        .where(agents.c.decommissioned_at.is_(None), is_meant(selector), agents.c.id > after)
        .order_by(agents.c.id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def in_service(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of them that are; to be asked again behind the locks of who was selected before."""
    there: set[str] = set()
    for start in range(0, len(ids), IDS_PER_QUERY):
        some = ids[start : start + IDS_PER_QUERY]
        there.update(connection.execute(_IN_SERVICE, {"ids": some}).scalars())
    return there


def is_meant(selector: Selector) -> ColumnElement[bool]:
    """The condition on rows of `agents`."""
    condition: ColumnElement[bool] = true()
    for requirement in selector.requirements:
        condition = condition & _condition(requirement)
    return condition


def _condition(requirement: Requirement) -> ColumnElement[bool]:
    if requirement.key == NODE_LABEL:
        return _of_the_id(requirement)
    held = agent_labels.c.key == requirement.key
    if requirement.operator in (Operator.IN, Operator.NOT_IN):
        held = held & agent_labels.c.value.in_(requirement.values)
    if requirement.operator in (Operator.IN, Operator.EXISTS):
        return agents.c.id.in_(select(agent_labels.c.agent_id).where(held))
    return not_(exists().where(agent_labels.c.agent_id == agents.c.id, held))


def _of_the_id(requirement: Requirement) -> ColumnElement[bool]:
    match requirement.operator:
        case Operator.IN:
            return agents.c.id.in_(requirement.values)
        case Operator.NOT_IN:
            return agents.c.id.not_in(requirement.values)
        case Operator.EXISTS:
            return true()
        case Operator.ABSENT:
            return false()


def facts_of(connection: Connection, ids: Sequence[str]) -> list[NodeFacts]:
    """What is known of these nodes, in their order; those unknown or out of service are absent."""
    found: dict[str, NodeFacts] = {}
    for start in range(0, len(ids), IDS_PER_QUERY):
        some = list(ids[start : start + IDS_PER_QUERY])
        labels = labels_of(connection, some)
        for row in connection.execute(_REPORTS, {"ids": some}):
            found[row.id] = _facts(row, labels.get(row.id, {}))
    return [found[agent_id] for agent_id in ids if agent_id in found]


def labels_of(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """The merged labels of these nodes, by key; without the one that every node has."""
    found: dict[str, dict[str, str]] = {}
    for agent_id, key, value in connection.execute(_LABELS, {"ids": list(ids)}):
        found.setdefault(agent_id, {})[key] = value
    return found


class _Told(msgspec.Struct):
    """Of a stored report what a dispatch may look at."""

    version: str | None = None
    host: str | None = None
    features: list[str] = []
    catalogue: msgspec.Raw = msgspec.Raw(b"[]")


_read_told = msgspec.json.Decoder(_Told).decode


def _facts(row: AnyRow, labels: Mapping[str, str]) -> NodeFacts:
    told = _read_told(row.report) if row.report else None
    return NodeFacts(
        id=row.id,
        labels={**labels, NODE_LABEL: row.id},
        version=told.version if told else None,
        host=told.host if told else None,
        is_silent=row.silent_at is not None,
        features=frozenset(told.features) if told else frozenset(),
        kinds=None if told is None else _kinds(bytes(told.catalogue)),
        reported_at=row.report_at,
    )


@lru_cache(CATALOGUES_KNOWN_MAX)
def _kinds(catalogue: bytes) -> Mapping[str, KindFacts]:
    read = [_kind(entry) for entry in msgspec.json.decode(catalogue)]
    return {kind.kind: kind for kind in read if kind is not None}


def _kind(entry: Any) -> KindFacts | None:
    """One entry; a node may report anything, so what cannot be read is not there."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
        return None
    schema, faults, risk = entry.get("payload_schema"), entry.get("faults"), entry.get("risk_level")
    return KindFacts(
        kind=entry["kind"],
        risk_level=RiskLevel(risk) if risk in list(RiskLevel) else None,
        payload_schema=schema if isinstance(schema, dict) else None,
        faults=tuple(str(x) for x in faults) if isinstance(faults, list) else (),
    )
