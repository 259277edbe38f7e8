"""One turn of the engine: everything that is to be decided now, in one transaction.

Pure deciders say what happens; this applies it to the database and reports what the engine must
do after the commit. Ended first (they free places), then expired, then what recurring actions call
for, then starts, then what has to make way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.domain.action import Action, Transition
from agent.domain.clock_doubt import Moment
from agent.domain.ending import Adopt, ExitRecord, RunState, decide_end, decide_recovery
from agent.domain.errors import IllegalTransition
from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.manifest import HOLD, TASK, Manifest, Terms
from agent.domain.starting import Slots, decide_start, decide_unwanted, decide_withdrawn
from agent.node.displacing import displace
from agent.node.gaps import no_gaps
from agent.node.ledger import Ledger
from agent.node.occurrences import Planner
from agent.node.ports import RunKey
from agent.node.restraints import Restraints, candidates, read_restraints
from agent.node.store import actions, brakes, recurring
from agent.node.store.meta import write_meta
from agent.node.store.parking import PARKED_PER_TURN_MAX, park
from agent.node.waits import Waits

_TOO_LATE = frozenset({Reason.WINDOW_PASSED, Reason.MISSED, Reason.WINDOW_CLOSED})
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
    evidence_read: bool = True
    """False until the runner has told what it knows: a waiting row of an old copy may have run."""
    mark: str = ""
    """The time that is believed now, to be kept with whatever this turn changes."""
    mark_owed: bool = False
    """It is to be kept even if nothing changes."""
    running: Sequence[Action] = ()
    """What runs, without the endings: who has what others wait for."""
    waits: Waits = field(default_factory=Waits)
    stepped_s: float = 0.0
    """By how much the wall clock was set since the last turn."""
    corrected_s: float | None = None
    """Where the clock is believed again: by how much it is ahead of what was counted on."""
    gaps: Callable[[datetime, datetime], Sequence[str]] = no_gaps
    """Why nothing was planned in a range of time, as far as is known."""
    moment: Moment | None = None
    """What time it is for recurring actions, where that may not be `now`."""

    @property
    def planned_by(self) -> Moment:
        """The time that recurring actions go by: `now`, unless that is in doubt."""
        if self.moment is not None and self.slots.clock_doubtful:
            return self.moment
        return Moment(at=self.now)


@dataclass(slots=True)
class TurnResult:
    """What the engine does once the turn is committed."""

    started: list[Action] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    """Of each start, how long after it was due."""
    settled: list[RunKey] = field(default_factory=list)
    ended: list[Action] = field(default_factory=list)
    """What left STARTED or will never start, as it is now; for the log."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Decisions that the lifecycle table does not have: a fault of ours, of that action only."""
    parked: list[tuple[str, str]] = field(default_factory=list)
    """Actions that this version cannot handle, and why: put out of the others' way."""
    stops: list[Action] = field(default_factory=list)
    """Occurrences that run and make way for a newer one."""
    restraints: Restraints = field(default_factory=Restraints)
    next_at: datetime | None = None
    again: bool = False
    changed: bool = False


def run_turn(connection: sqlite3.Connection, ledger: Ledger, given: TurnInput) -> TurnResult:
    """Settle endings, end what is too late, start what may start."""
    if given.stepped_s:
        actions.shift_delays(connection, given.now, given.stepped_s)
        brakes.shift(connection, given.now, given.stepped_s)
    result = TurnResult(restraints=read_restraints(connection, given.slots, given.now))
    given.waits.look(connection, given.slots, given.now)
    for ended in given.endings:
        _settle(connection, ledger, given, ended, result)
        result.settled.append(ended.key)
    if not given.slots.clock_doubtful:
        _begin_again(connection, given)
        if given.evidence_read:
            _expire(connection, ledger, given, result)
        _recur(connection, ledger, given, result)
        _start(connection, ledger, given, result)
        result.stops = displace(connection, ledger, given.slots, given.now)
        result.changed = result.changed or bool(result.stops)
    given.waits.filled(given.slots)
    if given.mark and (result.changed or given.mark_owed):
        write_meta(connection, clock_mark=given.mark)
    result.again = result.again or result.restraints.again
    result.next_at = _earliest(
        actions.next_instant(connection, given.now),
        recurring.next_instant(connection, given.now),
        brakes.next_expiry(connection, given.now),
    )
    return result


def _begin_again(connection: sqlite3.Connection, given: TurnInput) -> None:
    """Recurring actions whose beginning was written by a clock that has turned out wrong."""
    if given.corrected_s is not None:
        recurring.correct_beginnings(connection, given.now, given.corrected_s)
    if given.corrected_s is not None or given.stepped_s < 0:
        recurring.lower_beginnings(connection, given.now)


def _earliest(*instants: datetime | None) -> datetime | None:
    known = [instant for instant in instants if instant is not None]
    return min(known) if known else None


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
    counts_at = given.planned_by.at if given.planned_by.doubted else None
    moved = _move(connection, ledger, action, transition, result, counts_at=counts_at)
    if moved is None:
        return
    given.waits.settled(action, given.now)
    if moved.execution_status is ExecutionStatus.NULL:
        # A withdrawal that came while it ran, and the run is known not to have happened.
        doubtful = given.slots.clock_doubtful
        decide = decide_withdrawn if doubtful else decide_unwanted
        unwanted = decide(moved, given.now)
        if unwanted is not None:
            moved = _move(connection, ledger, moved, unwanted, result) or moved
    result.ended.append(moved)
    if moved.execution_status is ExecutionStatus.FINISHED:
        with _planning(connection, ledger, given, result) as planner:
            planner.follow(moved)


def _transition(action: Action, given: TurnInput, ended: Ended) -> Transition | Adopt:
    terms = given.terms_of(action)
    # The lane it was started in: the kind may have been changed or removed while it ran.
    mode = HOLD if action.lane is Lane.HOLD else TASK
    doubtful = given.slots.clock_doubtful
    if ended.state is RunState.EXITED and ended.record is not None and not ended.away:
        return decide_end(
            action, ended.record, terms, given.now, given.jitter, mode=mode, doubtful=doubtful
        )
    return decide_recovery(
        action, ended.state, ended.record, terms, given.now, given.jitter,
        mode=mode, doubtful=doubtful,
    )  # fmt: skip


def _recur(
    connection: sqlite3.Connection, ledger: Ledger, given: TurnInput, result: TurnResult
) -> None:
    """Plan what recurring actions have due.

    While nothing may start nothing is planned either: afterwards it is as if the node had been
    down, and `catch_up` decides. So without a runner too, which may yet say how the last run ended.
    """
    if given.slots.held is None:
        with _planning(connection, ledger, given, result) as planner:
            result.again = planner.plan_due() or result.again


@contextmanager
def _planning(
    connection: sqlite3.Connection, ledger: Ledger, given: TurnInput, result: TurnResult
) -> Iterator[Planner]:
    """A planner whose findings become the turn's."""

    def lane_of(kind: str) -> Lane:
        manifest = given.manifest_of(kind)
        return Lane.EXCLUSIVE if manifest is None else manifest.lane

    planner = Planner(connection, ledger, given.planned_by.at, lane_of)
    planner.doubted = given.planned_by.doubted
    planner.gaps = given.gaps
    yield planner
    result.ended += planner.ended
    result.parked += planner.parked
    result.changed = result.changed or planner.rows > 0 or bool(planner.parked)


def _expire(
    connection: sqlite3.Connection, ledger: Ledger, given: TurnInput, result: TurnResult
) -> None:
    late = actions.expired(connection, given.now, EXPIRED_PER_TURN_MAX)
    for action in late:
        if action.parked is not None:
            _park(connection, action, action.parked, result)
            continue
        transition = decide_unwanted(action, given.now)
        if transition is None:
            continue
        transition = _with_wait(action, transition, given, result)
        moved = _move(connection, ledger, action, transition, result)
        if moved is not None:
            result.ended.append(moved)
    result.again = result.again or len(late) == EXPIRED_PER_TURN_MAX


def _start(
    connection: sqlite3.Connection, ledger: Ledger, given: TurnInput, result: TurnResult
) -> None:
    """Fill free places by due time, then arrival; repeated while a pass changed anything."""
    slots = given.slots
    while True:
        progressed = False
        for action in _candidates(connection, given.now, slots, result.restraints):
            if action.parked is not None:
                _park(connection, action, action.parked, result)
                progressed = True
                continue
            decision = decide_start(action, given.now, slots)
            if not isinstance(decision, Transition):
                continue
            decision = _with_wait(action, decision, given, result)
            moved = _move(connection, ledger, action, decision, result)
            progressed = True
            if moved is None:
                continue  # parked: the next one may have its place
            if moved.execution_status is ExecutionStatus.STARTED:
                slots.take(moved.lane, moved.locks)
                result.started.append(moved)
                result.late_s.append(float(decision.evidence.get("late_s", 0.0)))
            else:
                result.ended.append(moved)
        if len(result.parked) >= PARKED_PER_TURN_MAX:
            result.again = True
            return
        if not progressed:
            return


def _with_wait(
    action: Action, transition: Transition, given: TurnInput, result: TurnResult
) -> Transition:
    """With what it had waited for, where it starts late or starts no more."""
    if transition.to is ExecutionStatus.STARTED:
        waited = given.waits.before_start(action, given.now)
    elif transition.reason in _TOO_LATE:
        running = [*given.running, *result.started]
        waited = given.waits.before_end(action, given.now, given.slots, running)
    else:
        return transition
    return replace(transition, evidence={**transition.evidence, **waited}) if waited else transition


def _move(
    connection: sqlite3.Connection,
    ledger: Ledger,
    action: Action,
    transition: Transition,
    result: TurnResult,
    counts_at: datetime | None = None,
) -> Action | None:
    """Move it, or note that the table forbids it: one action's fault must not stop the node."""
    try:
        moved = ledger.move(connection, action, transition, counts_at=counts_at)
    except IllegalTransition as error:
        result.refused.append((action.definition.id, str(error)))
        _park(connection, action, f"what was decided about it cannot be: {error}", result)
        return None
    result.changed = True
    return moved


def _park(connection: sqlite3.Connection, action: Action, why: str, result: TurnResult) -> None:
    """It waits for a version that can handle it, first in nobody's way."""
    park(connection, action.row, why)
    result.parked.append((action.definition.id, why))
    result.changed = True


def _candidates(
    connection: sqlite3.Connection, now: datetime, slots: Slots, restraints: Restraints
) -> list[Action]:
    found: list[Action] = []
    for lane in Lane:
        found += candidates(connection, now, slots, lane, restraints)
    return sorted(found, key=lambda action: (action.due_at or now, action.row))
