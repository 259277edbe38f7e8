"""Why a recurring action stands where it stands, and what became of an instant without a row."""

from __future__ import annotations

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from agent.domain.action import Action
from agent.domain.instants import format_instant, maybe_format, parse_instant
from agent.domain.lifecycle import Reason
from agent.domain.phase import phase_of
from agent.domain.recurring import Place, Recurring
from agent.domain.schedule.recurrence import occurrences_between
from agent.domain.why_rule import Instant, fate_of, tell_instant, tell_rule
from agent.node.store import recurring

LATEST_TOLD = 10
MISSED_TOLD = 10
ROWS_COUNTED_MAX = 10_000  # of one rule; "at least ten thousand" says enough
FOLDED_LOOKED_AT_MAX = 50  # rows of missed ranges, newest before the instant first
_OCCURRENCE = re.compile(r"(.+)@(\d{4}-\d\d-\d\dT[0-9:.]+Z)(\.b\d+)?\Z", re.ASCII)
_BY_WINDOW = frozenset({Reason.WINDOW_CLOSED.value, Reason.WINDOW_PASSED.value})
_SECOND = timedelta(seconds=1)
_FAR = timedelta(days=366 * 5)  # where the next instant after a wrong one is looked for
_LAST = datetime.max.replace(tzinfo=UTC)


def why_rule(
    connection: sqlite3.Connection, rule: Recurring, now: datetime, *, down: bool = False
) -> dict[str, Any]:
    """The whole answer about a recurring action: its latest outcomes are its decisions."""
    return {
        "id": rule.id,
        "phase": rule.word.upper(),
        "answer": tell_rule(rule, now, down=down),
        "now": {
            "state": rule.word,
            "paused": rule.held,
            "next_at": maybe_format(rule.next_at),
            "next_nominal_at": maybe_format(rule.next_nominal_at),
            "last_nominal_at": maybe_format(rule.state.last_nominal_at),
            "run_count": rule.state.run_count,
        },
        "decisions": _outcomes(connection, rule.id, now),
    }


def _outcomes(connection: sqlite3.Connection, rule_id: str, now: datetime) -> list[dict[str, Any]]:
    """The latest ones, whatever was missed also before them, and how many are not told."""
    found = recurring.latest(connection, rule_id, LATEST_TOLD)
    known = {action.row for action in found}
    missed = recurring.missed_until(connection, rule_id, _LAST, MISSED_TOLD)
    found += [action for action in missed if action.row not in known]
    found.sort(key=lambda action: (action.definition.nominal_at or action.accepted_at, action.row))
    told = [_outcome(action, now) for action in found]
    more = recurring.count_rows(connection, rule_id, ROWS_COUNTED_MAX) - len(found)
    if more > 0:
        least = "at least " if more + len(found) >= ROWS_COUNTED_MAX else ""
        what = f"{least}{more} older ones are not told here"
        see = {"see": f"agentctl list --recurring {rule_id}"}
        told.insert(0, {"at": None, "what": what, "reason": None, "evidence": see})
    return told


def why_instant(
    connection: sqlite3.Connection, action_id: str, now: datetime, place: Place
) -> dict[str, Any] | None:
    """About an id that names an instant of a rule here and has no row; None where it does not."""
    named = _OCCURRENCE.match(action_id)
    rule = recurring.by_id(connection, named[1]) if named else None
    if named is None or rule is None or rule.definition.schedule is None:
        return None
    try:
        nominal_at = parse_instant(named[2])
    except ValueError:
        return None
    instant = _instant(connection, rule, nominal_at, now, place, by_hand=named[3] is not None)
    fate = fate_of(instant)
    evidence = {
        "nominal_at": format_instant(nominal_at),
        "folded_into": instant.folded_into,
        "last_nominal_at": maybe_format(rule.state.last_nominal_at),
        "counts_from": format_instant(rule.since_at),
    }
    decision = {"at": None, "what": "no row", "reason": fate.value, "evidence": evidence}
    return {
        "id": action_id,
        "phase": fate.value.upper(),
        "answer": tell_instant(instant),
        "now": None,
        "decisions": [decision],
    }


def _instant(
    connection: sqlite3.Connection, rule: Recurring, nominal_at: datetime, now: datetime,
    place: Place, *, by_hand: bool,
) -> Instant:  # fmt: skip
    end = min(nominal_at, _LAST - _FAR) + _FAR
    following = _instants(rule, nominal_at, end, place)
    return Instant(
        rule=rule,
        nominal_at=nominal_at,
        now=now,
        belongs=bool(following) and following[0] < min(nominal_at, _LAST - _SECOND) + _SECOND,
        by_hand=by_hand,
        folded_into=_folded_into(connection, rule.id, nominal_at),
        next_of_rule=following[0] if following else None,
    )


def _instants(rule: Recurring, begin: datetime, end: datetime, place: Place) -> list[datetime]:
    anchor = rule.state.anchor_at
    found = occurrences_between(rule.schedule, anchor, begin, end, zone=rule.zone(place))
    return list(islice(found, 1))


def _folded_into(connection: sqlite3.Connection, rule_id: str, nominal_at: datetime) -> str | None:
    """The id of the row whose range of missed instants has this one."""
    for action in recurring.missed_until(connection, rule_id, nominal_at, FOLDED_LOOKED_AT_MAX):
        missed = action.missed or {}
        if parse_instant(missed["first"]) <= nominal_at <= parse_instant(missed["last"]):
            return action.definition.id
    return None


def _outcome(action: Action, now: datetime) -> dict[str, Any]:
    definition = action.definition
    status = action.execution_status
    phase = phase_of(definition, status, action.reason, action.due_at, now)
    evidence = {
        "id": definition.id,
        "nominal_at": maybe_format(definition.nominal_at),
        "exit_code": action.exit_code,
        "signal": action.signal,
        "missed": action.missed,
        "error": None if action.error == f"exit code {action.exit_code}" else action.error,
        "to_date": maybe_format(definition.to_date) if action.reason in _BY_WINDOW else None,
    }
    return {
        "at": maybe_format(action.ended_at or action.started_at or action.accepted_at),
        "what": f"{definition.id} {phase.value}",
        "reason": action.reason,
        "evidence": {key: value for key, value in evidence.items() if value is not None},
    }
