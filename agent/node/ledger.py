"""Every change of an action and its event, together: the only code that writes either.

Each method runs inside the caller's transaction, so a status and its outbox row are committed
as one, before anybody acts on them (DESIGN §1.3).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from agent.domain.action import Action, Transition, apply
from agent.domain.definition import Definition, Owner
from agent.domain.errors import Fault
from agent.domain.ids import RandomBits, new_mark
from agent.domain.instants import format_instant, to_us
from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.oneshot import first_due
from agent.domain.reconcile import Change, Verdict, decide_definition
from agent.domain.recurring import (
    Ended,
    Place,
    Recurring,
    counts_from,
    end,
    is_regular,
    recurring_view,
)
from agent.domain.schedule.recurrence import completed, occurrence_id
from agent.domain.schedule.spec import Overlap
from agent.node.store import actions, events, recurring
from agent.wire import strict_json
from agent.wire.definition import encode_definition
from agent.wire.execution import encode_execution
from agent.wire.messages import (
    DEFINITION_APPLIED,
    DEFINITION_REFUSED,
    LOCAL_DEFINITION,
    TRANSITION,
    plain_faults,
)

REFUSED_KEPT_MAX = 1_000  # rows of the quarantine; the oldest go first


class Ledger:
    """Writes actions and events; `random_bits` makes the events' marks."""

    def __init__(self, random_bits: RandomBits, place: Place | None = None) -> None:
        self._random_bits = random_bits
        self.place = place or Place()
        """Where this node is, for recurring actions: its name and its zone."""

    def accept(
        self, connection: sqlite3.Connection, definition: Definition, now: datetime, *,
        lane: Lane, due_at: datetime | None = None, rule: Recurring | None = None,
        missed: Mapping[str, Any] | None = None,
    ) -> Action:  # fmt: skip
        """A new action of this node or of the core; an occurrence is news to the core as well.

        `rule`: what it is an occurrence of, as that stands with it; told along.
        """
        action = Action(
            row=actions.next_row(connection),
            definition=definition,
            accepted_at=now,
            lane=lane,
            due_at=due_at or first_due(definition, now),
            alone=missed is None and _never_beside_its_kin(definition, rule),
            missed=missed,
        )
        actions.insert(connection, action)
        if definition.owner is Owner.NODE or definition.recurring_id is not None:
            body = {
                "action_id": definition.id,
                "definition": encode_definition(definition),
                "execution": encode_execution(action),
            }
            if rule is not None:
                body["rule"] = recurring_view(rule, self.place)
            self._append(connection, LOCAL_DEFINITION, now, action.row, body)
        return action

    def move(
        self, connection: sqlite3.Connection, action: Action, transition: Transition, *,
        counts_at: datetime | None = None,
    ) -> Action:  # fmt: skip
        """Apply a transition, on condition that the row still is `action`.

        `counts_at`: when an end was for recurring actions, where the clock is in doubt.
        """
        moved = apply(action, transition)
        actions.update(connection, action, moved)
        body: dict[str, Any] = {
            "action_id": action.definition.id,
            "from": action.execution_status.value,
            "to": moved.execution_status.value,
            "reason": transition.reason.value,
            "attempt": moved.attempt or action.attempt,
            "revision": moved.definition.revision,
            "execution": encode_execution(moved),
            "evidence": dict(transition.evidence),
        }
        if moved.due_at is not None:
            body["due_at"] = format_instant(moved.due_at)
        self._append(connection, TRANSITION, transition.at, action.row, body)
        if moved.is_final:
            ended_at = counts_at or moved.ended_at or transition.at
            self._note_end(connection, moved, counts_at or transition.at, ended_at)
        return moved

    def tell_recurring(self, connection: sqlite3.Connection, rule: Recurring, at: datetime) -> None:
        """A recurring action is new or changed: an event, whoever owns it."""
        standing = Action(row=0, definition=rule.definition, accepted_at=rule.accepted_at)
        readable = rule.definition.schedule is not None
        stored = None if readable else recurring.stored_definition(connection, rule.id)
        body = {
            "action_id": rule.id,
            "definition": stored or encode_definition(rule.definition),
            "execution": encode_execution(standing),
            "recurring": recurring_view(rule, self.place),
        }
        self._append(connection, LOCAL_DEFINITION, at, None, body)

    def _note_end(
        self, connection: sqlite3.Connection, action: Action, at: datetime, ended_at: datetime
    ) -> None:
        """What waits for this end: an interval counted from it, or a rule that now waits in vain.

        What follows a FINISHED one is created by the turn (agent.node.occurrences).
        """
        definition = action.definition
        if definition.recurring_id is not None:
            rule = recurring.by_id(connection, definition.recurring_id)
            if rule is not None and action.missed is None:
                stands_in = _stands_in(connection, definition)
                if counts_from(rule, definition, stands_in=stands_in):
                    state = completed(rule.schedule, rule.state, ended_at)
                    recurring.update(connection, replace(rule, state=state, next_at=at))
        if action.execution_status is not ExecutionStatus.FINISHED:
            for rule in recurring.waiting_for(connection, definition.id):
                over = end(rule, Ended.NOT_FINISHED, at)
                recurring.update(connection, over)
                self.tell_recurring(connection, over, at)

    def ask_to_stop(self, connection: sqlite3.Connection, action: Action, cause: str) -> Action:
        """Remember, before the runner is asked, why a started action is to be stopped."""
        if action.stop_cause is not None:
            return action
        marked = replace(action, stop_cause=cause)
        actions.update(connection, action, marked)
        return marked

    def apply_definition(
        self, connection: sqlite3.Connection, incoming: Definition, now: datetime, *,
        lane: Lane,
    ) -> tuple[Change, Action | None]:  # fmt: skip
        """A definition from the core: decide, store, and say so to the core."""
        current = actions.by_id(connection, incoming.id)
        change = decide_definition(current, incoming, now)
        if change.verdict is Verdict.REFUSED:
            self.refuse(connection, incoming.id, incoming.revision, change.faults, now)
            return change, current
        if current is None:
            action = self._accept_pulled(connection, incoming, now, lane=lane)
        else:
            action = self._redefine(connection, current, change, lane=lane)
        if change.verdict is not Verdict.UNCHANGED:
            self._tell_applied(connection, action, incoming.revision, change.verdict, now)
        if change.ends is not None:
            action = self.move(connection, action, change.ends)
        return change, action

    def _accept_pulled(
        self, connection: sqlite3.Connection, incoming: Definition, now: datetime, *, lane: Lane
    ) -> Action:
        """From the core. An occurrence that it asks for (a backfill) is like one made by hand: it
        takes its turn from now on, whatever instant it is of.
        """
        if incoming.recurring_id is None:
            return self.accept(connection, incoming, now, lane=lane)
        rule = recurring.by_id(connection, incoming.recurring_id)
        due_at = max(now, first_due(incoming, now))
        return self.accept(connection, incoming, now, lane=lane, due_at=due_at, rule=rule)

    def refuse(
        self, connection: sqlite3.Connection, action_id: str | None, revision: int | None,
        faults: tuple[Fault, ...], now: datetime,
    ) -> None:  # fmt: skip
        """A definition that cannot be kept: quarantined, shown, and reported; nothing else."""
        plain = plain_faults(faults)
        connection.execute(
            "INSERT OR REPLACE INTO refused (id, revision, at, faults) VALUES (?, ?, ?, ?)",
            (action_id or "?", revision, to_us(now), strict_json.encode_text(plain)),
        )
        connection.execute(
            "DELETE FROM refused WHERE id NOT IN (SELECT id FROM refused ORDER BY at DESC LIMIT ?)",
            (REFUSED_KEPT_MAX,),
        )
        known = actions.by_id(connection, action_id) if action_id else None
        body = {"action_id": action_id, "revision": revision, "faults": plain}
        self._append(connection, DEFINITION_REFUSED, now, known.row if known else None, body)

    def _redefine(
        self, connection: sqlite3.Connection, current: Action, change: Change, *, lane: Lane
    ) -> Action:
        if change.definition is None:
            return current
        updated = replace(
            current,
            definition=change.definition,
            due_at=change.due_at or current.due_at,
            stop_cause=change.stop_cause or current.stop_cause,
            lane=current.lane if current.attempt else lane,
            parked=None,  # this definition was read, whatever the one before it was
        )
        actions.update(connection, current, updated)
        return updated

    def _tell_applied(
        self, connection: sqlite3.Connection, action: Action, revision: int, verdict: Verdict,
        now: datetime,
    ) -> None:  # fmt: skip
        body = {
            "action_id": action.definition.id,
            "revision": revision,
            "verdict": verdict.value,
            "execution_status": action.execution_status.value,
        }
        self._append(connection, DEFINITION_APPLIED, now, action.row, body)

    def tell_recurring_applied(
        self, connection: sqlite3.Connection, rule_id: str, revision: int, verdict: Verdict,
        now: datetime,
    ) -> None:  # fmt: skip
        """As for an action; a recurring one has no status of its own."""
        body: dict[str, Any] = {
            "action_id": rule_id, "revision": revision, "verdict": verdict.value,
            "execution_status": ExecutionStatus.NULL.value,
        }  # fmt: skip
        rule = recurring.by_id(connection, rule_id)
        if rule is not None:
            body["recurring"] = recurring_view(rule, self.place)
        self._append(connection, DEFINITION_APPLIED, now, None, body)

    def _append(
        self, connection: sqlite3.Connection, type: str,  # noqa: A002
        at: datetime, row: int | None, body: Mapping[str, Any],
    ) -> None:  # fmt: skip
        events.append(
            connection, mark=new_mark(self._random_bits), type=type, at=at, row=row, body=body
        )


def _never_beside_its_kin(definition: Definition, rule: Recurring | None) -> bool:
    """Whether an occurrence shares the lock of its recurring action; without that, it is careful"""
    schedule = None if rule is None else rule.definition.schedule
    if definition.recurring_id is None:
        return False
    return schedule is None or schedule.overlap is not Overlap.ALLOW


def _stands_in(connection: sqlite3.Connection, definition: Definition) -> bool:
    """Whether another action has the name of this occurrence's instant, so that it has another."""
    if definition.recurring_id is None or definition.nominal_at is None or is_regular(definition):
        return False
    name = occurrence_id(definition.recurring_id, definition.nominal_at)
    taken = actions.by_id(connection, name)
    return taken is not None and taken.definition.recurring_id != definition.recurring_id
