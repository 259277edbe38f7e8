"""What storing a plan would come to: it is new, a repeat of another, or its id is taken.

Looks only; a dry run ends after it. What is decided here holds for as long as the locks that
`dispatching` took before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, null, select, union_all
from sqlalchemy.engine import Connection

from agent.core.actions.deduplicating import given_key, live_keys, rule_key
from agent.core.actions.listing import ActionRef
from agent.core.actions.planning import STORED, Outcome, Plan
from agent.core.actions.submission import Submission
from agent.core.occasion import Occasion
from agent.core.store.locks import IDS_PER_QUERY
from agent.core.store.schema import actions, recurring
from agent.domain.definition import Owner
from agent.domain.errors import Fault, Refused

# Built once: a statement costs more to build than to run.
_IDS: Any = bindparam("ids", expanding=True)
_HOLDERS = union_all(
    select(actions.c.id, actions.c.agent_id).where(actions.c.id.in_(_IDS)),
    select(recurring.c.id, null().label("agent_id")).where(recurring.c.id.in_(_IDS)),
)


@dataclass(frozen=True, slots=True)
class Planned:
    """One dispatch, as it was asked for and as it was judged: a plan for each of its nodes."""

    submission: Submission
    plans: Sequence[Plan]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """One node's part, as it comes out."""

    plan: Plan
    outcome: Outcome
    action_id: str | None
    """Of a DEDUPLICATED one the first one's; None where there is no action."""
    approval_id: str | None = None
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """All parts; or, where the `dedup_key` is taken, what the first one was answered."""

    parts: list[Settled]
    repeat_of: Mapping[str, Any] | None = None


def nodes_told(result: Result) -> list[str]:
    """Whose streams have something new."""
    delivered = {Outcome.QUEUED, Outcome.SCHEDULED}
    return [part.plan.node for part in result.parts if part.outcome in delivered]


def waitable(result: Result) -> list[ActionRef]:
    """The new actions that will end; one with a schedule has no end of its own to wait for."""
    return [
        ActionRef(id=part.plan.definition.id, node=part.plan.node, owner=Owner.CORE.value)
        for part in result.parts
        if part.outcome in STORED and part.plan.definition.schedule is None
    ]


def settle(
    connection: Connection, occasion: Occasion, submission: Submission, plans: Sequence[Plan]
) -> Result:
    """What storing the plans would come to. Raises `Refused` (the id is taken)."""
    [settled] = settle_each(connection, occasion, [Planned(submission, plans)])
    if isinstance(settled, Refused):
        raise settled
    return settled


def settle_each(
    connection: Connection, occasion: Occasion, asked: Sequence[Planned]
) -> list[Result | Refused]:
    """What storing each of them would come to beside what is stored, or why it is refused."""
    keys = {key for one in asked for key in keys_of(one)}
    live = live_keys(connection, occasion, keys) if keys else {}
    own = [one.submission.definition.id for one in asked if one.submission.has_own_id]
    taken = _taken(connection, own) if own else {}
    return [_settle(one, live, taken) for one in asked]


def keys_of(one: Planned) -> set[str]:
    """What it must not happen twice by: the caller's key, and those of rules."""
    keys = {rule_key(plan.dedup_key) for plan in one.plans if plan.dedup_key is not None}
    if one.submission.dedup_key is not None:
        keys.add(given_key(one.submission.dedup_key))
    return keys


def _settle(
    one: Planned, live: Mapping[str, Mapping[str, Any]], taken: Mapping[str, Refused]
) -> Result | Refused:
    submission = one.submission
    if submission.dedup_key is not None:
        first = live.get(given_key(submission.dedup_key))
        if first is not None:
            return Result([], first)
    if submission.has_own_id and (refused := taken.get(submission.definition.id)):
        return refused
    return Result([_settled(plan, live) for plan in one.plans])


def _settled(plan: Plan, live: Mapping[str, Mapping[str, Any]]) -> Settled:
    if plan.dedup_key is not None and (first := live.get(rule_key(plan.dedup_key))):
        return Settled(plan=plan, outcome=Outcome.DEDUPLICATED, action_id=first["action_id"])
    action_id = plan.definition.id if plan.outcome in STORED else None
    return Settled(plan=plan, outcome=plan.outcome, action_id=action_id, faults=plan.faults)


def require_free(connection: Connection, action_id: str) -> None:
    """Raise `Refused` where the id that a caller chose is taken."""
    for refused in _taken(connection, [action_id]).values():
        raise refused


def _taken(connection: Connection, ids: Iterable[str]) -> dict[str, Refused]:
    """Of these ids those that are taken, each with the words for it."""
    wanted = sorted(set(ids))
    found: dict[str, Refused] = {}
    for start in range(0, len(wanted), IDS_PER_QUERY):
        some = wanted[start : start + IDS_PER_QUERY]
        for action_id, agent_id in connection.execute(_HOLDERS, {"ids": some}):
            found.setdefault(action_id, _is_taken(action_id, agent_id))
    return found


def _is_taken(action_id: str, agent_id: str | None) -> Refused:
    if agent_id is None:
        holder = "is, or was, a recurring action's"
    else:
        holder = f"is taken by an action on {agent_id!r}"
    return Refused("exists", f"the id {action_id!r} {holder}; nothing was changed")
