"""Why an action stands where it stands, as one plain sentence with its numbers. Pure.

One teller per `Reason`; a test fails if one is missing. A reason of a newer version is told as it
came. What a due action waits for is in `agent.domain.why_waiting`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent.domain.action import Action
from agent.domain.definition import Owner
from agent.domain.ending import (
    ADOPTED,
    FINISHED_WHILE_AWAY,
    NEVER_STARTED,
    OUTCOME_UNKNOWN,
    signal_name,
)
from agent.domain.instants import parse_instant
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.spans import between_text, instant_text, span_text
from agent.domain.waited import tell_waited

TOLD_S_MIN = 1.0  # a script that needs less than this to end is not worth a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a sentence may draw on: the action as it is, and the evidence of its last transition.

    `attempts_max` and `timeout_s` are those that held, by definition and manifest.
    """

    action: Action
    now: datetime
    evidence: Mapping[str, Any] = field(default_factory=dict)
    was_running: bool = False
    """Whether that transition was one from STARTED."""
    late_s: float | None = None
    """How long after it was due the latest attempt was started."""
    start: Mapping[str, Any] = field(default_factory=dict)
    """The evidence of that start."""
    attempts_max: int = 1
    timeout_s: float | None = None


Teller = Callable[[Told], str]

VERDICTS: Mapping[str, str] = {
    ADOPTED: "it still ran when a new agentd came, which took it over",
    FINISHED_WHILE_AWAY: "it ended while no agentd was there, and the runner had kept the record",
    NEVER_STARTED: "the runner knows that the start never happened, and that it never will",
    OUTCOME_UNKNOWN: "it had been started, and neither agentd nor the runner saw how it ended",
}
"""What was found out about a started action after a restart."""


def tell_ended(told: Told) -> str:
    """Why a final action ended as it did."""
    return _with_verdict(_by_reason(told), told) + _waited(told)


def tell_running(told: Told) -> str:
    """Why it runs, since when, and what will end it."""
    action = told.action
    since = action.started_at or told.now
    text = f"It is running: attempt {action.attempt}, started {instant_text(since)}"
    text += f" ({between_text(since, told.now)} ago{_late(told)})"
    if action.stop_cause is not None:
        text += f", and it is being stopped ({action.stop_cause})"
    elif action.definition.to_date is not None:
        text += f"; it is stopped at its window's end, {instant_text(action.definition.to_date)}"
    elif told.timeout_s is not None:
        text += f"; it is stopped after {span_text(told.timeout_s)}"
    return _with_verdict(text, told) + _waited(told)


def tell_again(told: Told) -> str:
    """Why an action that has already been started waits for another start."""
    return _with_verdict(_by_reason(told), told)


def _by_reason(told: Told) -> str:
    reason = told.action.reason or ""
    teller = TELLERS.get(reason)
    return f"It ended with the reason {reason or 'none'}" if teller is None else teller(told)


def _with_verdict(text: str, told: Told) -> str:
    verdict = VERDICTS.get(told.action.verdict or "")
    return f"{text}; {verdict}." if verdict else f"{text}."


def _waited(told: Told) -> str:
    """What it had waited for in vain, or else until it started late."""
    for_ever, late = tell_waited(told.evidence), tell_waited(told.start)
    if for_ever is not None and told.action.is_final:
        return f" It could not start because {for_ever}."
    return f" It started late because {late}." if late is not None else ""


def _withdrawn(told: Told) -> str:
    definition = told.action.definition
    by = "the core" if definition.owner is Owner.CORE else "its owner on this node"
    return f"It was withdrawn by {by} {_where_it_stood(told)}"


def _cancelled(told: Told) -> str:
    return f"It was cancelled on this node {_where_it_stood(told)}"


def _where_it_stood(told: Told) -> str:
    action = told.action
    if action.execution_status is ExecutionStatus.WONT_START:
        return "before it started"
    if told.was_running:
        return f"while attempt {action.attempt} ran, and was stopped{_after(action)}{_kill(told)}"
    return f"while it waited to be tried again after attempt {action.attempt}"


def _rejected(told: Told) -> str:
    approval = told.action.definition.approval
    by = f" by {approval.by}" if approval and approval.by else ""
    why = f": {approval.reason}" if approval and approval.reason else ""
    return f"Its approval was refused{by}{why}"


def _expired(told: Told) -> str:
    approval = told.action.definition.approval
    until = approval.expires_at if approval else None
    return "Its approval was not given in time" + (f", by {instant_text(until)}" if until else "")


def _window_passed(told: Told) -> str:
    action, to_date = told.action, told.action.definition.to_date
    if to_date is None:
        return "Its window closed before it could start"
    if action.accepted_at >= to_date:
        late = between_text(to_date, action.accepted_at)
        return f"Its window had closed at {instant_text(to_date)}, {late} before it came here"
    return f"Its window closed at {instant_text(to_date)} before it could start{_had_waited(told)}"


def _had_waited(told: Told) -> str:
    action = told.action
    begin = action.definition.from_date or action.accepted_at
    end = action.ended_at or told.now
    return f": it was due at {instant_text(begin)} and had waited {between_text(begin, end)}"


def _missed(told: Told) -> str:
    action, missed = told.action, told.action.missed
    if missed:
        rule = action.definition.recurring_id
        least = "" if missed.get("counted_all", True) else "at least "
        why = f" ({missed['why']})" if missed.get("why") else ""
        return (
            f"{least}{missed.get('count', 1)} instants of {rule} from {missed.get('first')} to "
            f"{missed.get('last')} were missed and are not made up for{why}"
        )
    deadline = action.definition.start_deadline_s
    limit = "" if deadline is None else f" of {span_text(deadline)}"
    return f"Its start deadline{limit} passed before it could start{_had_waited(told)}"


def _overlap(told: Told) -> str:
    action = told.action
    if action.execution_status is ExecutionStatus.WONT_START:
        return f"It was skipped (overlap) because an earlier occurrence had not ended{_error(told)}"
    if told.was_running:
        stopped = f"It was stopped{_after(action)}"
        return f"{stopped} because the next occurrence fell due (overlap){_kill(told)}"
    return "The next occurrence fell due before it could be tried again (overlap)"


def _superseded(told: Told) -> str:
    rule = told.action.definition.recurring_id
    newer = f"A newer occurrence of {rule}" if rule else "A newer one"
    return f"{newer} took its place before it started{_error(told)}"


def _unknown_kind(told: Told) -> str:
    return f"Its kind {told.action.definition.kind} cannot be used on this node{_error(told)}"


def _bad_payload(told: Told) -> str:
    return f"Its payload does not fit its kind {told.action.definition.kind}{_error(told)}"


def _dry_run_unsupported(told: Told) -> str:
    return f"Its kind {told.action.definition.kind} has no dry run, and it was not run for real"


def _exit_zero(told: Told) -> str:
    return f"Attempt {told.action.attempt} exited 0{_after(told.action)}{_late(told)}"


def _exit_nonzero(told: Told) -> str:
    action = told.action
    code = "with a failure" if action.exit_code is None else action.exit_code
    return f"{_attempt(told)} exited {code}{_after(action)}{_limit(told)}{_left(told)}"


def _signalled(told: Told) -> str:
    action = told.action
    number = "a signal" if action.signal is None else f"signal {action.signal}"
    if told.evidence.get("limit"):
        name = "" if action.signal is None else f" ({signal_name(action.signal)})"
        ended = f"and was ended by {number}{name}{_after(action)}"
        return f"{_attempt(told)} exceeded its limit {told.evidence['limit']} {ended}{_left(told)}"
    which = f"{number}, which agentd did not send"
    return f"{_attempt(told)} was ended by {which},{_after(action)}{_left(told)}"


def _timeout(told: Told) -> str:
    limit = "" if told.timeout_s is None else f" of {span_text(told.timeout_s)}"
    passed = f"was stopped because its timeout{limit} passed"
    return f"{_attempt(told)} {passed}{_after(told.action)}{_kill(told)}{_left(told)}"


def _spawn_failed(told: Told) -> str:
    return f"{_attempt(told)} could not be started{_error(told)}"


def _interrupted(told: Told) -> str:
    return (
        f"Attempt {told.action.attempt} was interrupted, and its kind or definition says "
        "on_restart = never, so it is not run again"
    )


def _window_closed(told: Told) -> str:
    action, to_date = told.action, told.action.definition.to_date
    at = "" if to_date is None else f" at {instant_text(to_date)}"
    if action.execution_status is ExecutionStatus.FINISHED:
        ran = f"It ran until its window closed{at}, as a hold should{_after(action)}"
        return f"{ran}{_kill(told)}"
    if told.was_running:
        stopped = f"its window closed{at}"
        ran = f"Attempt {action.attempt} was stopped{_after(action)}"
        return f"{ran} because {stopped}{_kill(told)}"
    return f"Its window closed{at} before it could be tried again (attempt {action.attempt} failed)"


def _retry_abandoned(told: Told) -> str:
    return f"It was given up after attempt {told.action.attempt}{_error(told)}"


def _rerun(told: Told) -> str:
    return (
        f"How attempt {told.action.attempt} ended cannot be known, so it runs again "
        "(on_restart = rerun)"
    )


def _retry(told: Told) -> str:
    action, failures = told.action, told.evidence.get("failures", told.action.failures)
    failed = f"Attempt {action.attempt} failed ({told.evidence.get('failure', 'no reason')}"
    left = f"{failures} of {told.attempts_max} attempts are used up"
    return f"{failed}{_error(told)}) and is tried again, with growing delays; {left}"


def _hold_restart(told: Told) -> str:
    action = told.action
    again = "" if action.due_at is None else f" at {instant_text(action.due_at)}"
    return f"It should run for its whole window, ended early, and is started again{again}"


def _never_started(told: Told) -> str:
    return "Its start is known never to have happened, so the attempt does not count"


def _due(told: Told) -> str:
    return f"It was due and its place was free{_late(told)}"


def _attempt(told: Told) -> str:
    of = f" of {told.attempts_max}" if told.attempts_max > 1 else ""
    return f"Attempt {told.action.attempt}{of}"


def _left(told: Told) -> str:
    return "; no attempt is left" if told.attempts_max > 1 else ""


def _after(action: Action) -> str:
    if action.started_at is None or action.ended_at is None:
        return ""
    return f" after {between_text(action.started_at, action.ended_at)}"


def _kill(told: Told) -> str:
    """That TERM was not enough, or that it took its time over it."""
    action, stopped_at, killed_at = told.action, _at(told, "stopped_at"), _at(told, "killed_at")
    if stopped_at is None or action.started_at is None or action.ended_at is None:
        return ""
    term = f"TERM after {between_text(action.started_at, stopped_at)}"
    if killed_at is not None:
        return f" ({term}, and KILL {between_text(stopped_at, killed_at)} later, as it still ran)"
    took_s = (action.ended_at - stopped_at).total_seconds()
    return f" ({term}; it ended {span_text(took_s)} later)" if took_s >= TOLD_S_MIN else ""


def _at(told: Told, name: str) -> datetime | None:
    found = told.evidence.get(name)
    return parse_instant(found) if isinstance(found, str) else None


def _limit(told: Told) -> str:
    limit = told.evidence.get("limit")
    return f", beyond its limit {limit}" if limit else ""


def _late(told: Told) -> str:
    if told.late_s is None:
        return ""
    planned = told.start.get("planned_for")
    caught_up = f": {told.start.get('run_late_by')} runs it late, planned for {planned}"
    return f", {span_text(told.late_s)} after it was due{caught_up if planned else ''}"


def _error(told: Told) -> str:
    return f": {told.action.error}" if told.action.error else ""


TELLERS: Mapping[str, Teller] = {
    Reason.DUE: _due,
    Reason.WITHDRAWN: _withdrawn,
    Reason.REJECTED: _rejected,
    Reason.CANCELLED_ON_NODE: _cancelled,
    Reason.WINDOW_PASSED: _window_passed,
    Reason.MISSED: _missed,
    Reason.OVERLAP: _overlap,
    Reason.EXPIRED: _expired,
    Reason.SUPERSEDED: _superseded,
    Reason.UNKNOWN_KIND: _unknown_kind,
    Reason.BAD_PAYLOAD: _bad_payload,
    Reason.DRY_RUN_UNSUPPORTED: _dry_run_unsupported,
    Reason.EXIT_ZERO: _exit_zero,
    Reason.EXIT_NONZERO: _exit_nonzero,
    Reason.SIGNALLED: _signalled,
    Reason.TIMEOUT: _timeout,
    Reason.SPAWN_FAILED: _spawn_failed,
    Reason.INTERRUPTED: _interrupted,
    Reason.WINDOW_CLOSED: _window_closed,
    Reason.RETRY_ABANDONED: _retry_abandoned,
    Reason.RERUN: _rerun,
    Reason.RETRY: _retry,
    Reason.HOLD_RESTART: _hold_restart,
    Reason.NEVER_STARTED: _never_started,
}
