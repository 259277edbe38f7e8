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
from agent.domain.oneshot import first_due
from agent.domain.reconcile import Change, Verdict, decide_definition
from agent.node.store import actions, events
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

    def __init__(self, random_bits: RandomBits) -> None:
        self._random_bits = random_bits

    def accept(
        self, connection: sqlite3.Connection, definition: Definition, now: datetime, *,
        parallel: bool,
    ) -> Action:  # fmt: skip
        """A new action of this node or of the core."""
        action = Action(
            row=actions.next_row(connection),
            definition=definition,
            accepted_at=now,
            parallel=parallel,
            due_at=first_due(definition, now),
        )
        actions.insert(connection, action)
        if definition.owner is Owner.NODE:
            body = {
                "action_id": definition.id,
                "definition": encode_definition(definition),
                "execution": encode_execution(action),
            }
            self._append(connection, LOCAL_DEFINITION, now, action.row, body)
        return action

    def move(
        self, connection: sqlite3.Connection, action: Action, transition: Transition
    ) -> Action:
        """Apply a transition, on condition that the row still is `action`."""
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
        return moved

    def ask_to_stop(self, connection: sqlite3.Connection, action: Action, cause: str) -> Action:
        """Remember, before the runner is asked, why a started action is to be stopped."""
        if action.stop_cause is not None:
            return action
        marked = replace(action, stop_cause=cause)
        actions.update(connection, action, marked)
        return marked

    def apply_definition(
        self, connection: sqlite3.Connection, incoming: Definition, now: datetime, *,
        parallel: bool,
    ) -> tuple[Change, Action | None]:  # fmt: skip
        """A definition from the core: decide, store, and say so to the core."""
        current = actions.by_id(connection, incoming.id)
        change = decide_definition(current, incoming, now)
        if change.verdict is Verdict.REFUSED:
            self.refuse(connection, incoming.id, incoming.revision, change.faults, now)
            return change, current
        if current is None:
            action = self.accept(connection, incoming, now, parallel=parallel)
        else:
            action = self._redefine(connection, current, change, parallel=parallel)
        if change.verdict is not Verdict.UNCHANGED:
            self._tell_applied(connection, action, incoming.revision, change.verdict, now)
        if change.ends is not None:
            action = self.move(connection, action, change.ends)
        return change, action

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
        self, connection: sqlite3.Connection, current: Action, change: Change, *, parallel: bool
    ) -> Action:
        if change.definition is None:
            return current
        updated = replace(
            current,
            definition=change.definition,
            due_at=change.due_at or current.due_at,
            stop_cause=change.stop_cause or current.stop_cause,
            parallel=current.parallel if current.attempt else parallel,
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

    def _append(
        self, connection: sqlite3.Connection, type: str,  # noqa: A002
        at: datetime, row: int | None, body: Mapping[str, Any],
    ) -> None:  # fmt: skip
        events.append(
            connection, mark=new_mark(self._random_bits), type=type, at=at, row=row, body=body
        )
