"""Accepting, changing and ending recurring actions: what a definition does, with its events.

Runs inside the caller's transaction. Occurrences are `agent.node.occurrences`' work.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from agent.domain.definition import Definition
from agent.domain.errors import Fault
from agent.domain.ids import RECURRING_ID_CHARS_MAX
from agent.domain.reconcile import Verdict, id_conflict
from agent.domain.recurring import (
    PAUSED_WITHOUT_REASON,
    REASON_CHARS_MAX,
    Ended,
    Recurring,
    begin,
    decide_recurring,
    is_pause_alone,
    look_again,
    redefine,
    repaused,
)
from agent.node.occurrences import Planner
from agent.node.recalled import recall
from agent.node.store import actions, recurring

RECURRING_MAX = 100_000  # on one node, ended ones that are still kept included
CHAIN_MAX = 32  # links of "after … has finished" in a row; a longer one is a mistake or a loop
FOLLOWERS_MAX = 100  # of one end: they are all created in the transaction that settles it


def faults_here(connection: sqlite3.Connection, definition: Definition) -> tuple[Fault, ...]:
    """What only this node's database can say against a definition with a schedule."""
    faults = []
    if len(definition.id) > RECURRING_ID_CHARS_MAX:
        text = (
            f"is {len(definition.id)} characters long; a recurring action's id may have "
            f"{RECURRING_ID_CHARS_MAX}, because its occurrences' ids begin with it"
        )
        faults.append(Fault("id", text))
    action = actions.by_id(connection, definition.id)
    if action is not None:
        faults.append(id_conflict(action.definition, definition))
    after = definition.schedule.after if definition.schedule else None
    if after is not None:
        found = _after_faults(connection, definition.id, after)
        faults += [Fault("schedule.after", why) for why in found]
    return tuple(faults)


def _after_faults(connection: sqlite3.Connection, rule_id: str, after: str) -> list[str]:
    """An id that nothing has yet is fine: what is named may come later, or from the core."""
    named: str | None = after
    for _ in range(CHAIN_MAX):
        if named is None:
            break
        if named == rule_id:
            return [f"{after!r} itself follows {rule_id!r}: they would start each other for ever"]
        named = recurring.after_of(connection, named)
    else:
        return [f"more than {CHAIN_MAX} recurring actions would follow each other"]
    action = actions.by_id(connection, after)
    if action is not None and action.is_final:
        status = action.execution_status.value
        return [f"{after!r} has ended already ({status}), so nothing will ever follow it"]
    follows_already = recurring.after_of(connection, rule_id) == after
    if not follows_already and recurring.count_waiting_for(connection, after) >= FOLLOWERS_MAX:
        return [f"{FOLLOWERS_MAX} recurring actions follow {after!r} already; no more may"]
    return []


def apply_definition(
    planner: Planner, incoming: Definition
) -> tuple[Verdict, Recurring | None, tuple[Fault, ...]]:
    """A definition with a schedule, whoever sent it: decide and store. A repeat changes nothing."""
    connection, now, place = planner.connection, planner.now, planner.ledger.place
    current = recurring.by_id(connection, incoming.id)
    verdict, faults = decide_recurring(current, incoming)
    if verdict in (Verdict.INSERTED, Verdict.UPDATED):
        faults = faults_here(connection, incoming) if incoming.should_be_executed else ()
        if current is None and not faults and _is_full(connection):
            text = f"this node has {RECURRING_MAX} recurring actions; remove some first"
            faults = (Fault("", text),)
    if faults:
        return Verdict.REFUSED, current, faults
    if verdict in (Verdict.UNCHANGED, Verdict.TOO_LATE):
        return verdict, current, ()
    if current is None:
        fresh = replace(begin(incoming, now, place), doubted=planner.doubted)
        rule = recall(connection, fresh, now, place)
        recurring.insert(connection, rule)
    else:
        rule = _redefine(planner, current, incoming)
    if not incoming.should_be_executed:
        rule = planner.end(rule, Ended.WITHDRAWN)
    elif rule.ended_at is not None:  # nothing is left of its schedule: no turn will tell it
        planner.ledger.tell_recurring(connection, rule, now)
    return verdict, rule, ()


def _redefine(planner: Planner, current: Recurring, incoming: Definition) -> Recurring:
    """What was due by the old revision is settled by it; the new one begins here."""
    if not incoming.should_be_executed:
        if current.ended_at is None and current.parked is None:
            current = planner.abandon(current, "the recurring action was withdrawn before")
        elif current.ended_at is None:
            current = planner.abandon_parked(current)
        rule = replace(current, definition=incoming, parked=None)
        recurring.update(planner.connection, rule)
        return rule
    if is_pause_alone(current.definition, incoming):
        rule = repaused(current, incoming, planner.now, planner.ledger.place)
        return _change(planner, rule)
    settled = _settle_due(planner, current)
    rule = redefine(settled, incoming, planner.now, planner.ledger.place)
    rule = replace(rule, doubted=settled.doubted and planner.doubted)
    recurring.update(planner.connection, rule)
    return rule


def _settle_due(planner: Planner, rule: Recurring) -> Recurring:
    if rule.ended_at is not None:
        return rule
    if rule.parked is not None:
        return planner.abandon_parked(rule)
    if rule.held is not None:
        return planner.abandon(rule, f"the recurring action was paused: {rule.held}")
    if rule.next_at is None or rule.next_at > planner.now:
        return rule
    planner.alone(rule, planner.fire)
    settled = recurring.by_id(planner.connection, rule.id) or rule
    if settled.parked is not None or settled.next_at is None or settled.next_at > planner.now:
        return settled
    # More than one transaction may plan; by the new revision they would be nobody's.
    return planner.abandon(settled, "the recurring action was changed before")


def _is_full(connection: sqlite3.Connection) -> bool:
    return recurring.count(connection) >= RECURRING_MAX


def pause(planner: Planner, rule: Recurring, reason: str | None) -> Recurring:
    """From now on nothing of it is planned; what waits or runs goes on."""
    text = (reason or PAUSED_WITHOUT_REASON)[:REASON_CHARS_MAX]
    paused = replace(rule, paused=text)
    return _change(planner, paused)


def resume(planner: Planner, rule: Recurring) -> Recurring:
    """Plan again: the pause was as if the node had been down."""
    resumed = replace(rule, paused=None)
    if resumed.held is None:
        resumed = look_again(resumed, planner.now, planner.ledger.place)
    return _change(planner, resumed)


def _change(planner: Planner, rule: Recurring) -> Recurring:
    recurring.update(planner.connection, rule)
    planner.ledger.tell_recurring(planner.connection, rule, planner.now)
    return rule
