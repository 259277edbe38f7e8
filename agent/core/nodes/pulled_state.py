"""A node's state as its own API has it, made into the parts that a node pushes. Pure.

`GET /v1/state` shows an action on one level; the two halves are taken apart again by their names.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agent.domain.definition import Owner
from agent.domain.errors import AgentError, shown
from agent.domain.lifecycle import ExecutionStatus
from agent.wire.definition import FIELDS
from agent.wire.messages import StatePush

_EXECUTION = (
    "execution_status", "reason", "attempt", "started_at", "ended_at", "exit_code", "signal",
    "error", "verdict", "output", "missed",
)  # fmt: skip


class Unusable(AgentError):
    """What answers there is not this node, or its state cannot be taken over; the text says why."""


class Page(msgspec.Struct, kw_only=True):
    """One page of `GET /v1/state`; older nodes have no `cursor`."""

    agent_id: str
    agent_epoch: str
    seq: int
    actions: list[Any]
    recurring: list[Any] = []
    next: str | None = None
    cursor: str = ""


def require_same(first: Page, page: Page, agent_id: str) -> None:
    """Raise `Unusable` unless this is a page of that node, and of one history."""
    if page.agent_id != agent_id:
        raise Unusable(f"there answers the node {shown(page.agent_id)}, not {agent_id!r}")
    if page.agent_epoch != first.agent_epoch:
        raise Unusable("its history changed while it was read")


def part_of(first: Page, page: Page, snapshot: str, number: int) -> StatePush:
    """The page as the part of a push. What holds for all is told by the first page."""
    actions = [_item(one) for one in page.actions]
    actions += [_item(one, standing=True) for one in page.recurring]
    return StatePush(
        agent_epoch=first.agent_epoch,
        as_of_seq=first.seq,
        first_seq=first.seq + 1,
        cursor=first.cursor,
        snapshot=snapshot,
        part=number,
        last=page.next is None,
        actions=actions,
    )


def _item(view: Any, *, standing: bool = False) -> Any:
    """One action, or a recurring one; what is neither goes on as it is, to be refused by itself."""
    if not isinstance(view, dict):
        return view
    execution = {name: view[name] for name in _EXECUTION if name in view}
    if standing:  # it has no execution of its own
        execution = {"execution_status": ExecutionStatus.NULL.value}
    return {
        "action_id": view.get("id"),
        "revision": view.get("revision"),
        "owner": view.get("owner", Owner.CORE.value),
        "definition": {name: value for name, value in view.items() if name in FIELDS},
        "execution": execution,
    }
