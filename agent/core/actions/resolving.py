"""The nodes that a dispatch is for, as they are now: one that enrolls later is none of its."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.engine import Connection

from agent.core.actions.targets import Target
from agent.core.nodes.selection import select_nodes
from agent.core.store.schema import agents
from agent.domain.errors import Fault, InvalidDocument, NotFound, Refused, shown

NODES_MAX = 20_000  # of one dispatch: its rows are one transaction, some seconds of the writer


def resolve(connection: Connection, target: Target) -> list[str]:
    """The ids of the nodes it means, by name; never none. A node that is named may not exist.

    Raises `InvalidDocument` for a selector that means none, or more than one dispatch may.
    """
    if target.node is not None:
        return [target.node]
    assert target.selector is not None, "a target has one or the other"
    ids = select_nodes(connection, target.selector, NODES_MAX + 1)
    if not ids:
        text = f"no node matches {shown(str(target.selector))}; corectl agents lists them"
        raise InvalidDocument([Fault(target.said_in, text)])
    if len(ids) > NODES_MAX:
        text = f"matches more than {NODES_MAX} nodes; select fewer at once"
        raise InvalidDocument([Fault(target.said_in, text)])
    return ids


def resolve_one(target: Target) -> str:
    """The node that the target names."""
    assert target.node is not None, "a selector is resolved by `resolve`"
    return target.node


def require_in_service(connection: Connection, node: str) -> None:
    """Raise `NotFound` for an unknown node, `Refused` for one that was taken out of service."""
    query = select(agents.c.decommissioned_at).where(agents.c.id == node)
    row = connection.execute(query).first()
    if row is None or row.decommissioned_at is not None:
        raise _refusal(node, is_known=row is not None)


def why_not_there(connection: Connection, node: str) -> Refused:
    """Why nothing is known of this node."""
    known = connection.execute(select(agents.c.id).where(agents.c.id == node)).first()
    return _refusal(node, is_known=known is not None)


def _refusal(node: str, *, is_known: bool) -> Refused:
    if not is_known:
        return NotFound(f"there is no node {shown(node)}; corectl agents lists them")
    return Refused(
        "decommissioned",
        f"the node {node!r} was taken out of service; enroll it again, or name another",
    )
