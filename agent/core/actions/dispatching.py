"""A dispatch, carried out: what was planned meets what is stored; whole or not at all.

The nodes get it at once, with its `from_date`; their own timers fire it. All of it is one
transaction, also of many dispatches that came together. What happened between planning and this (a
node taken out of service, a key taken) is seen here, behind the locks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.actions import deduplicating
from agent.core.actions.deduplicating import Taken, given_key, lock_name, rule_key
from agent.core.actions.gathering import gathered
from agent.core.actions.placing import place_all
from agent.core.actions.planning import STORED, Outcome, Plan
from agent.core.actions.rechecking import GONE, what_changed
from agent.core.actions.resolving import why_not_there
from agent.core.actions.settling import Planned, Result, Settled, keys_of, settle_each
from agent.core.actions.submission import DEDUP_TTL_S_DEFAULT, Submission
from agent.core.approvals.requests import ask_all
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.store.locks import lock_agents, serialize
from agent.domain.errors import AgentError, Fault, InvalidDocument, Refused


def carry_out(
    connection: Connection,
    occasion: Occasion,
    submission: Submission,
    plans: Sequence[Plan],
    by: str,
) -> Result:
    """Store what is to be stored: rows, deliveries, questions, keys, events, one audit line.

    Raises `Refused` (the id is taken, the one node is out of service), and `InvalidDocument` where
    no node is left that can run it; then nothing was changed.
    """
    [result] = carry_out_each(connection, occasion, [Planned(submission, plans)], by)
    if isinstance(result, AgentError):
        raise result
    return result


def carry_out_each(
    connection: Connection, occasion: Occasion, asked: Sequence[Planned], by: str
) -> list[Result | AgentError]:
    """The same for many dispatches, in as few statements; each refused or stored for itself."""
    serialize(connection, *{name for one in asked for name in _names(one)})
    lock_agents(connection, (plan.node for one in asked for plan in one.plans))
    results: list[Result | AgentError] = []
    for some in _apart(asked):
        results += _store(connection, occasion, some, by)
    lines = [
        (_audit_target(one.submission, result.parts), _audited(one.submission, result.parts))
        for one, result in zip(asked, results, strict=True)
        # A repeat changes nothing, so nobody needs to be told.
        if isinstance(result, Result) and result.repeat_of is None
    ]
    audit.record_all(connection, occasion, by, "dispatch", lines)
    return results


def _apart(asked: Sequence[Planned]) -> Iterator[list[Planned]]:
    """In order, in groups of which no two have an id or a key in common: the later one of such a
    pair has to meet the first one stored.
    """
    group: list[Planned] = []
    held: set[str] = set()
    for one in asked:
        names = keys_of(one)
        if one.submission.has_own_id:
            names.add(_id_name(one))
        if group and not held.isdisjoint(names):
            yield group
            group, held = [], set()
        group.append(one)
        held |= names
    if group:
        yield group


def _store(
    connection: Connection, occasion: Occasion, asked: Sequence[Planned], by: str
) -> list[Result | AgentError]:
    """All that is stored of these, but for their audit lines."""
    results = _still_true(connection, asked, settle_each(connection, occasion, asked))
    parts = [part for result in results if isinstance(result, Result) for part in result.parts]
    stored = [part for part in parts if part.outcome in STORED]
    place_all(connection, occasion, [part.plan.definition for part in stored], by, _noted(stored))
    results = _asked(connection, occasion, results)
    taken = [
        key
        for one, result in zip(asked, results, strict=True)
        if isinstance(result, Result)
        for key in _taken(one.submission, [x for x in result.parts if x.outcome in STORED])
    ]
    deduplicating.take(connection, occasion, taken)
    journal.store(connection, [_suppressed(occasion, part, by) for part in parts
                               if part.outcome is Outcome.SUPPRESSED])  # fmt: skip
    return results


def _names(one: Planned) -> set[str]:
    """What writers of the same must queue for, as there is no row yet to lock."""
    names = {lock_name(key) for key in keys_of(one)}
    if one.submission.has_own_id:
        names.add(_id_name(one))
    return names


def _id_name(one: Planned) -> str:
    return f"action:{one.submission.definition.id}"


def _still_true(
    connection: Connection, asked: Sequence[Planned], results: Sequence[Result | Refused]
) -> list[Result | AgentError]:
    """The same, but for nodes that are not what they were when they were planned for."""
    if connection.dialect.name == "sqlite" and all(one.submission.target.is_one for one in asked):
        return list(results)  # planned in this transaction, which has the database to itself
    parts = [part for result in results if isinstance(result, Result) for part in result.parts]
    changed = what_changed(connection, [part.plan for part in parts if part.outcome in STORED])
    if not changed:
        return list(results)
    return [
        _without(connection, one, result, changed) if isinstance(result, Result) else result
        for one, result in zip(asked, results, strict=True)
    ]


def _without(
    connection: Connection, one: Planned, result: Result, changed: Mapping[str, Fault]
) -> Result | AgentError:
    """The result where these actions can not be: if none is left, a refusal."""
    parts = [_failed(part, changed.get(part.action_id or "")) for part in result.parts]
    # A repeat has no parts that could change.
    if parts == result.parts or any(part.outcome is not Outcome.FAILED for part in parts):
        return replace(result, parts=parts)
    if not one.submission.target.is_one:
        return InvalidDocument(gathered((part.plan.node, part.faults) for part in parts))
    [only] = parts
    is_gone = only.faults == (GONE,)
    return why_not_there(connection, only.plan.node) if is_gone else InvalidDocument(only.faults)


def _failed(part: Settled, fault: Fault | None) -> Settled:
    if part.outcome not in STORED or fault is None:
        return part
    return replace(part, outcome=Outcome.FAILED, action_id=None, faults=(fault,))


def _asked(
    connection: Connection, occasion: Occasion, results: Sequence[Result | AgentError]
) -> list[Result | AgentError]:
    """Put the questions; the results with what they are called."""
    waiting = [
        (part.plan.definition.id, part.plan.judged.question)
        for result in results
        if isinstance(result, Result)
        for part in result.parts
        if part.outcome is Outcome.PENDING_APPROVAL and part.plan.judged is not None
    ]
    if not waiting:
        return list(results)
    questions = [question for _, question in waiting if question is not None]
    ids = ask_all(connection, occasion, questions)
    named = {action_id: name for (action_id, _), name in zip(waiting, ids, strict=True)}
    return [
        replace(result, parts=[_named(part, named) for part in result.parts])
        if isinstance(result, Result)
        else result
        for result in results
    ]


def _named(part: Settled, named: Mapping[str, str]) -> Settled:
    if part.outcome is not Outcome.PENDING_APPROVAL:
        return part
    return replace(part, approval_id=named.get(part.plan.definition.id))


def _taken(submission: Submission, stored: Sequence[Settled]) -> list[Taken]:
    """The keys of what was stored; nothing was, then a repeat may try."""
    taken = [
        Taken(
            rule_key(part.plan.dedup_key),
            part.plan.dedup_ttl_s,
            {"action_id": part.plan.definition.id},
        )
        for part in stored
        if part.plan.dedup_key is not None
    ]
    if submission.dedup_key is not None and stored:
        ttl_s = submission.dedup_ttl_s or stored[0].plan.verdict.ttl_s or DEDUP_TTL_S_DEFAULT
        taken.append(Taken(given_key(submission.dedup_key), ttl_s, _first(submission, stored)))
    return taken


def _first(submission: Submission, stored: Sequence[Settled]) -> dict[str, Any]:
    """What a repeat is told of the first one."""
    if submission.target.is_one:
        only = stored[0].plan
        return {"action_id": only.definition.id, "node": only.node}
    return {
        "correlation_id": stored[0].plan.definition.correlation_id,
        "actions": [[part.plan.node, part.plan.definition.id] for part in stored],
    }


def _noted(stored: Sequence[Settled]) -> dict[str, dict[str, Any]]:
    """What the event `dispatched` says besides, by action."""
    return {
        part.plan.definition.id: {"rule": part.plan.rule, "result": part.plan.verdict.result.value}
        for part in stored
        if part.plan.rule is not None
    }


def _suppressed(occasion: Occasion, part: Settled, by: str) -> dict[str, Any]:
    definition = part.plan.definition
    body = {
        "requested_by": by,
        "kind": definition.kind,
        "rule": part.plan.rule,
        "reason": part.plan.verdict.reason,
        "correlation_id": definition.correlation_id,
    }
    return journal.row_of(occasion, part.plan.node, journal.SUPPRESSED, None, body)


def _audit_target(submission: Submission, parts: Sequence[Settled]) -> str:
    if not submission.target.is_one:
        return str(submission.target)
    return parts[0].action_id or parts[0].plan.node


def _audited(submission: Submission, parts: Sequence[Settled]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for part in parts:
        counts[part.outcome.value] = counts.get(part.outcome.value, 0) + 1
    rules = sorted({part.plan.rule for part in parts if part.plan.rule is not None})
    detail: dict[str, Any] = {
        "kind": submission.definition.kind,
        "target": str(submission.target),
        "outcomes": counts,
        "correlation_id": parts[0].plan.definition.correlation_id,
        "retry_of": submission.definition.retry_of,
        "rules": rules,
        "approved": submission.approve,
    }
    return {key: value for key, value in detail.items() if value}
