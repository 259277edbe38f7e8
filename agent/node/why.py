"""Why an action stands where it stands: the sentence, what holds it now, and every decision.

Reads what stands in the database; what only a running daemon knows is handed in as a `Look`. Also
`agentctl` uses it while the daemon is down, so nothing here loads asyncio or the web server.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent.domain.action import Action, Transition
from agent.domain.ending import ADOPTED
from agent.domain.errors import NotFound
from agent.domain.instants import format_instant, maybe_format, parse_instant
from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.manifest import Terms, agree_terms
from agent.domain.phase import phase_of
from agent.domain.recurring import Place
from agent.domain.starting import Slots, decide_start
from agent.domain.why import VERDICTS, Told, tell_again, tell_ended, tell_running
from agent.domain.why_waiting import (
    ABOUT_TO_END,
    ABOUT_TO_START,
    DOWN,
    STORE_FAILING,
    Holder,
    Standing,
    holders_of,
    standing_wait,
    tell_waiting,
)
from agent.node.store import actions, brakes, events, recurring
from agent.node.store.events import Event
from agent.node.store.meta import read_meta
from agent.node.store.pages import count_ahead
from agent.node.views import HISTORY_MAX
from agent.node.what_is_lost import loss_hint
from agent.node.why_rule import why_instant, why_rule
from agent.wire.messages import TRANSITION

AHEAD_COUNTED_MAX = 1_000  # "a thousand before it" says enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is known besides the database. `slots` None: no daemon runs."""

    now: datetime
    slots: Slots | None = None
    running: tuple[Action, ...] = ()
    terms_of: Callable[[Action], Terms] | None = None
    place: Place = field(default_factory=Place)
    runner_problem: str | None = None
    store_problem: str | None = None
    clock_problem: str | None = None


def explain(connection: sqlite3.Connection, action_id: str, look: Look) -> dict[str, Any]:
    """The answer about whatever this id names here. Raises `NotFound`."""
    if look.slots is not None:
        _restrain(connection, look.slots, look.now)
    action = actions.by_id(connection, action_id)
    if action is not None:
        return why_action(connection, action, look)
    rule = recurring.by_id(connection, action_id)
    if rule is not None:
        return why_rule(connection, rule, look.now, down=look.slots is None)
    instant = why_instant(connection, action_id, look.now, look.place)
    if instant is None:
        text = f"there is no action {action_id!r} on this node, nor was there one lately"
        raise NotFound(text + loss_hint(connection))
    return instant


def why_action(connection: sqlite3.Connection, action: Action, look: Look) -> dict[str, Any]:
    """The whole answer about one action."""
    history = events.of_action(connection, action.row, HISTORY_MAX)
    told = _told(action, history, look)
    paused = bool(read_meta(connection).paused)
    phase = phase_of(
        action.definition, action.execution_status, action.reason, action.due_at, look.now,
        paused=paused,
    )  # fmt: skip
    now = None
    if action.is_final:
        answer = tell_ended(told)
    elif action.execution_status is ExecutionStatus.STARTED:
        answer, now = tell_running(told), _running_now(action, look)
    else:
        answer, now = _waiting(connection, told, look)
    return {
        "id": action.definition.id,
        "phase": phase.value,
        "answer": answer,
        "now": now,
        "decisions": [*_decisions(action, history), *_present(now, look)],
    }


def _restrain(connection: sqlite3.Connection, slots: Slots, now: datetime) -> None:
    """Pause and brakes as the database has them, as a turn of the engine reads them too."""
    slots.paused = slots.paused or bool(read_meta(connection).paused)
    slots.brakes = brakes.active(connection, None if slots.clock_doubtful else now)


def _told(action: Action, history: list[Event], look: Look) -> Told:
    moves = [event.body for event in history if event.type == TRANSITION]
    last = moves[-1] if moves else {}
    starts = [move for move in moves if move.get("to") == ExecutionStatus.STARTED.value]
    start = (starts[-1].get("evidence") or {}) if starts else {}
    terms = look.terms_of(action) if look.terms_of else agree_terms(action.definition, None)
    return Told(
        action=action,
        now=look.now,
        evidence=last.get("evidence") or {},
        was_running=last.get("from") == ExecutionStatus.STARTED.value,
        late_s=start.get("late_s"),
        start=start,
        attempts_max=terms.retry.max_attempts,
        timeout_s=terms.timeout_s,
    )


def _running_now(action: Action, look: Look) -> dict[str, Any]:
    since = action.started_at
    return {
        "running_since": maybe_format(since),
        "running_s": None if since is None else round((look.now - since).total_seconds(), 3),
        "attempt": action.attempt,
        "stopping": action.stop_cause,
        "stops_at": maybe_format(action.definition.to_date),
    }


def _waiting(connection: sqlite3.Connection, told: Told, look: Look) -> tuple[str, dict[str, Any]]:
    action = told.action
    wait = _wait(action, look)
    standing = _standing(connection, action, look)
    answer = tell_waiting(wait, action, standing)
    if action.attempt and action.reason:
        answer = f"{answer} {tell_again(told)}"
    late_s = None if action.due_at is None else (look.now - action.due_at).total_seconds()
    now = {
        "wait": wait,
        "due_at": maybe_format(action.due_at),
        "late_s": None if late_s is None else round(late_s, 3),
        "until": maybe_format(action.definition.to_date),
        "held_by": [
            {"id": one.id, "kind": one.kind, "since": maybe_format(one.since)}
            for one in holders_of(wait, standing)
        ],
        "ahead": standing.ahead,
    }
    return answer, now


def _wait(action: Action, look: Look) -> str:
    """The word for what holds it, by the engine's own function."""
    held = standing_wait(action)
    if held is not None:
        return held
    if look.slots is None:
        due = action.due_at is not None and action.due_at <= look.now
        return DOWN if due else "not_due"
    decision = decide_start(action, look.now, look.slots)
    if not isinstance(decision, Transition):
        return decision.value
    if look.store_problem is not None:
        return STORE_FAILING
    starts = decision.to is ExecutionStatus.STARTED
    return ABOUT_TO_START if starts else ABOUT_TO_END


def _standing(connection: sqlite3.Connection, action: Action, look: Look) -> Standing:
    lanes: dict[Lane, list[Holder]] = {lane: [] for lane in Lane}
    same_app = []
    for one in look.running:
        holder = Holder(
            id=one.definition.id,
            kind=one.definition.kind,
            since=one.started_at,
            locks=one.locks,
        )
        lanes[one.lane].append(holder)
        if set(one.locks).intersection(action.locks):
            same_app.append(holder)
    meta = read_meta(connection)
    return Standing(
        now=look.now,
        paused_since=parse_instant(meta.paused_at) if meta.paused_at else None,
        paused_by=meta.paused_by or None,
        pause_reason=meta.pause_reason or None,
        runner_problem=look.runner_problem,
        store_problem=look.store_problem,
        clock_problem=look.clock_problem,
        parallel_max=look.slots.parallel_max if look.slots else 0,
        exclusive=tuple(lanes[Lane.EXCLUSIVE]),
        parallel=tuple(lanes[Lane.PARALLEL]),
        holds=tuple(lanes[Lane.HOLD]),
        brake=look.slots.brake_on(action.definition) if look.slots else None,
        same_app=tuple(same_app),
        ahead=count_ahead(connection, action, look.now, AHEAD_COUNTED_MAX),
    )


def _decisions(action: Action, history: list[Event]) -> Iterator[dict[str, Any]]:
    """Every recorded decision, oldest first."""
    for event in history:
        yield {
            "at": format_instant(event.at),
            "what": _what(event.type, event.body),
            "reason": event.body.get("reason") or event.body.get("verdict"),
            "evidence": _evidence(event.type, event.body),
        }
    if action.verdict == ADOPTED and not action.is_final:
        found = {"found": VERDICTS[ADOPTED]}
        yield {"at": None, "what": "adopted", "reason": ADOPTED, "evidence": found}
    if action.stop_cause is not None and not action.is_final:
        cause = action.stop_cause
        yield {"at": None, "what": "is to be stopped", "reason": cause, "evidence": {}}


def _present(now: Mapping[str, Any] | None, look: Look) -> Iterator[dict[str, Any]]:
    """What is decided about it in this moment: that it waits, and for what."""
    if now is not None and "wait" in now:
        evidence = {key: now[key] for key in ("held_by", "ahead", "late_s") if now[key]}
        at = format_instant(look.now)
        yield {"at": at, "what": "waits", "reason": now["wait"], "evidence": evidence}


def _what(type_: str, body: Mapping[str, Any]) -> str:
    if type_ == TRANSITION:
        to = body.get("to")
        if to == ExecutionStatus.STARTED.value:
            return f"started attempt {body.get('attempt')}"
        if to == ExecutionStatus.NULL.value:
            return f"waits for another start after attempt {body.get('attempt')}"
        return f"ended {to}"
    if type_ == "local_definition":
        return "accepted here"
    if type_ == "definition_applied":
        return f"revision {body.get('revision')} of the core: {body.get('verdict')}"
    return type_


def _evidence(type_: str, body: Mapping[str, Any]) -> dict[str, Any]:
    if type_ != TRANSITION:
        kept = {"execution_status": body.get("execution_status")}
        return {key: value for key, value in kept.items() if value is not None}
    execution = body.get("execution") or {}
    found = dict(body.get("evidence") or {})
    extra = {
        "due_at": body.get("due_at"),
        "verdict": execution.get("verdict"),
        "error": execution.get("error"),
        "missed": execution.get("missed"),
    }
    return found | {key: value for key, value in extra.items() if value is not None}
