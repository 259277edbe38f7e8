"""One turn of the engine: everything that is to be decided now, in one transaction.

Pure deciders say what happens; this applies it to the database and reports what the engine must
do after the commit. Ended first (they free places), then expired, then starts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agent.domain.action import Action, Transition
from agent.domain.ending import Adopt, ExitRecord, RunState, decide_end, decide_recovery
from agent.domain.errors import IllegalTransition
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.manifest import Manifest, Terms
from agent.domain.starting import Slots, decide_start, decide_unwanted
from agent.node.ledger import Ledger
from agent.node.ports import RunKey
from agent.node.store import actions

EXPIRED_PER_TURN_MAX = 500  # a storm is folded over several turns, so that exits never wait for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What is known of a run that does not run any more; `away`: learned after a restart."""

    key: RunKey
    state: RunState
    record: ExitRecord | None = None
    away: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnInput:
    """All that a turn depends on besides the database."""

    now: datetime
    endings: Sequence[Ended]
    slots: Slots
    manifest_of: Callable[[str], Manifest | None]
    terms_of: Callable[[Action], Terms]
    jitter: float


@dataclass(slots=True)
class TurnResult:
    """What the engine does once the turn is committed."""

    started: list[Action] = field(default_factory=list)
    settled: list[RunKey] = field(default_factory=list)
    ended: list[Action] = field(default_factory=list)
    """What left STARTED or will never start, as it is now; for the log."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Decisions that the lifecycle table does not have: a fault of ours, of that action only."""
    next_at: datetime | None = None
    again: bool = False
    changed: bool = False


def run_turn(connection: sqlite3.Connection, ledger: Ledger, given: TurnInput) -> TurnResult:
    """Settle endings, end what is too late, start what may start."""
    result = TurnResult()
    for ended in given.endings:
        _settle(connection, ledger, given, ended, result)
        result.settled.append(ended.key)
    _expire(connection, ledger, given.now, result)
    _start(connection, ledger, given, result)
    result.next_at = actions.next_instant(connection, given.now)
    return result


def _settle(
    connection: sqlite3.Connection,
    ledger: Ledger,
    given: TurnInput,
    ended: Ended,
    result: TurnResult,
) -> None:
    action = actions.by_row(connection, ended.key.row)
    if (
        action is None
        or action.execution_status is not ExecutionStatus.STARTED
        or action.start_no != ended.key.start_no
    ):
        return  # told twice, or settled before
    transition = _transition(action, given, ended)
    if isinstance(transition, Adopt):
        return
    moved = _move(connection, ledger, action, transition, result)
    if moved is None:
        return
    if moved.execution_status is ExecutionStatus.NULL:
        # A withdrawal that came while it ran, and the run is known not to have happened.
        unwanted = decide_unwanted(moved, given.now)
        if unwanted is not None:
            moved = _move(connection, ledger, moved, unwanted, result) or moved
    result.ended.append(moved)


def _transition(action: Action, given: TurnInput, ended: Ended) -> Transition | Adopt:
    terms = given.terms_of(action)
    manifest = given.manifest_of(action.definition.kind)
    mode = manifest.mode if manifest else "task"
    if ended.state is RunState.EXITED and ended.record is not None and not ended.away:
        return decide_end(action, ended.record, terms, given.now, given.jitter, mode=mode)
    return decide_recovery(
        action, ended.state, ended.record, terms, given.now, given.jitter, mode=mode
    )


def _expire(
    connection: sqlite3.Connection, ledger: Ledger, now: datetime, result: TurnResult
) -> None:
    late = actions.expired(connection, now, EXPIRED_PER_TURN_MAX)
    for action in late:
        transition = decide_unwanted(action, now)
        if transition is None:
            continue
        moved = _move(connection, ledger, action, transition, result)
        if moved is not None:
            result.ended.append(moved)
    result.again = len(late) == EXPIRED_PER_TURN_MAX


def _start(
    connection: sqlite3.Connection, ledger: Ledger, given: TurnInput, result: TurnResult
) -> None:
    """Fill free places by due time, then arrival; repeated while a pass changed anything."""
    slots = given.slots
    while True:
        progressed = False
        for action in _candidates(connection, given.now, slots):
            decision = decide_start(action, given.now, slots)
            if not isinstance(decision, Transition):
                continue
            moved = _move(connection, ledger, action, decision, result)
            if moved is None:
                continue
            progressed = True
            if moved.execution_status is ExecutionStatus.STARTED:
                slots.take(moved.parallel, moved.definition.app_names)
                result.started.append(moved)
            else:
                result.ended.append(moved)
        if not progressed:
            return


def _move(
    connection: sqlite3.Connection,
    ledger: Ledger,
    action: Action,
    transition: Transition,
    result: TurnResult,
) -> Action | None:
    """Move it, or note that the table forbids it: one action's fault must not stop the node."""
    try:
        moved = ledger.move(connection, action, transition)
    except IllegalTransition as error:
        result.refused.append((action.definition.id, str(error)))
        return None
    result.changed = True
    return moved


def _candidates(connection: sqlite3.Connection, now: datetime, slots: Slots) -> list[Action]:
    found: list[Action] = []
    for parallel in (False, True):
        if slots.lane_free(parallel):
            free = slots.parallel_max - slots.parallel_used if parallel else 1
            found += actions.due(
                connection, now, parallel=parallel, busy_apps=slots.apps, limit=free
            )
    return sorted(found, key=lambda action: (action.due_at or now, action.row))
