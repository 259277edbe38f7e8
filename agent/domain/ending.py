"""How an attempt ended: from the runner's evidence to a transition. Pure.

Three deciders: an exit record (`decide_end`), an outcome nobody can know (`decide_unknown`), and
the choice between them when `agentd` comes back (`decide_recovery`, DESIGN §3, "On start-up").
"""

from __future__ import annotations

import signal as signals
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from agent.domain.action import Action, Outcome, Transition
from agent.domain.definition import OnRestart
from agent.domain.hold import after_exit, is_steady
from agent.domain.instants import maybe_format
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.manifest import HOLD, TASK, Terms
from agent.domain.retry import next_attempt_at

FINISHED_WHILE_AWAY = "finished_while_away"
ADOPTED = "adopted"
NEVER_STARTED = "never_started"
OUTCOME_UNKNOWN = "outcome_unknown"
RESTORED = "restored_from_backup"
"""The database is older than what happened, and no evidence tells of this action."""

RUNNER_STOP = "runner_stop"
"""The stop cause of a runner that is itself being stopped."""


class RunState(StrEnum):
    """What the runner says of a run (docs/runner-protocol.md)."""

    RUNNING = "running"
    EXITED = "exited"
    NEVER_STARTED = "never_started"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecord:
    """The runner's record of one run, times as aware UTC."""

    started_at: datetime | None
    ended_at: datetime
    code: int | None = None
    signal: int | None = None
    stop_cause: str = "none"
    spawn_error: str | None = None
    """`code: message` of a start that failed, else None."""
    survivors: int = 0
    output: Mapping[str, Any] = field(default_factory=dict)
    duration_s: float | None = None
    limit: str | None = None
    """The limit of the manifest that ended it (`cpu_s`, `memory_bytes` …), if one did."""
    stopped_at: datetime | None = None
    """When it was sent TERM, and in `killed_at` when KILL had to follow."""
    killed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """The script still runs: keep it, and let window, timeout and withdrawal apply as usual."""


_STOPPED = {
    "withdrawn": Reason.WITHDRAWN,
    "cancelled_on_node": Reason.CANCELLED_ON_NODE,
    "overlap": Reason.OVERLAP,
    "window": Reason.WINDOW_CLOSED,
}
_PERMANENT = {
    "unknown_kind": Reason.UNKNOWN_KIND,
    "dry_run_unsupported": Reason.DRY_RUN_UNSUPPORTED,
    "unsafe_script": Reason.SPAWN_FAILED,
    "bad_manifest": Reason.SPAWN_FAILED,
}


def decide_end(
    action: Action,
    record: ExitRecord,
    terms: Terms,
    now: datetime,
    jitter: float,
    *,
    mode: str = TASK,
    verdict: str | None = None,
    doubtful: bool = False,
) -> Transition:
    """The transition that an exit record demands of a STARTED action.

    `doubtful`: the wall clock may be wrong, so no window is taken to have closed by it.
    """
    if record.stop_cause == RUNNER_STOP:
        return decide_unknown(action, terms, now, {"stop_cause": RUNNER_STOP}, doubtful=doubtful)
    evidence = _evidence(record)
    outcome = _outcome(record)
    if record.spawn_error is None and record.stop_cause in _STOPPED:
        held = record.stop_cause == "window" and mode == HOLD
        to = ExecutionStatus.FINISHED if held else ExecutionStatus.WONT_FINISH
        reason = _STOPPED[record.stop_cause]
        return Transition(
            to=to, reason=reason, at=now, outcome=outcome, verdict=verdict, evidence=evidence
        )
    to_date = None if doubtful else action.definition.to_date
    if record.code == 0 and record.stop_cause == "none" and record.spawn_error is None:
        if mode == HOLD and action.stop_cause is None and not action.definition.dry_run:
            return _decide_early_exit(action, record, now, to_date, verdict)
        return Transition(
            to=ExecutionStatus.FINISHED,
            reason=Reason.EXIT_ZERO,
            at=now,
            outcome=outcome,
            verdict=verdict,
            evidence=evidence,
        )
    steady = mode == HOLD and is_steady(record.duration_s)
    return _decide_failure(action, record, terms, now, jitter, verdict, to_date, steady=steady)


def _decide_early_exit(
    action: Action,
    record: ExitRecord,
    now: datetime,
    to_date: datetime | None,
    verdict: str | None,
) -> Transition:
    after = after_exit(action.hold_restarts, record.duration_s, now, to_date)
    return Transition(
        to=after.to,
        reason=after.reason,
        at=now,
        due_at=after.due_at,
        forgives=is_steady(record.duration_s),
        hold_restarts=after.restarts,
        outcome=_outcome(record),
        verdict=verdict,
        evidence=_evidence(record) | {"restarts": after.restarts},
    )


def _decide_failure(
    action: Action,
    record: ExitRecord,
    terms: Terms,
    now: datetime,
    jitter: float,
    verdict: str | None,
    to_date: datetime | None,
    *,
    steady: bool,
) -> Transition:
    """`steady`: it held for so long that the failures before this one do not count any more."""
    reason, permanent = _failure_reason(record)
    if action.stop_cause is not None:
        # The script ended before TERM reached it: its true result counts, and nobody wants another.
        permanent = True
    failures = 1 if steady else action.failures + 1
    again_at = None if permanent else next_attempt_at(terms.retry, failures, now, to_date, jitter)
    evidence = _evidence(record) | {"failure": reason.value, "failures": failures}
    if again_at is None:
        to, why = ExecutionStatus.FAILED, reason
    else:
        to, why = ExecutionStatus.NULL, Reason.RETRY
    return Transition(
        to=to,
        reason=why,
        at=now,
        due_at=again_at,
        counts_as_failure=True,
        forgives=steady,
        outcome=_outcome(record),
        verdict=verdict,
        evidence=evidence,
    )


def _failure_reason(record: ExitRecord) -> tuple[Reason, bool]:
    """Why it failed, and whether trying again is pointless."""
    if record.spawn_error is not None:
        code = record.spawn_error.partition(":")[0]
        permanent = _PERMANENT.get(code)
        return (permanent, True) if permanent else (Reason.SPAWN_FAILED, False)
    if record.stop_cause == "timeout":
        return Reason.TIMEOUT, False
    return (Reason.EXIT_NONZERO if record.signal is None else Reason.SIGNALLED), False


def decide_unknown(
    action: Action,
    terms: Terms,
    now: datetime,
    evidence: Mapping[str, Any],
    *,
    doubtful: bool = False,
) -> Transition:
    """The attempt started and nobody can know how it ended: seed 002's rule, and `on_restart`."""
    definition = action.definition
    if not definition.should_be_executed or action.stop_cause is not None:
        reason = _STOPPED.get(action.stop_cause or "", Reason.WITHDRAWN)
        to = ExecutionStatus.WONT_FINISH
    elif not doubtful and definition.to_date is not None and now >= definition.to_date:
        to, reason = ExecutionStatus.WONT_FINISH, Reason.WINDOW_CLOSED
    elif terms.on_restart is OnRestart.NEVER:
        to, reason = ExecutionStatus.FAILED, Reason.INTERRUPTED
    else:
        to, reason = ExecutionStatus.NULL, Reason.RERUN
    error = None if to is ExecutionStatus.NULL else "interrupted; how it ended cannot be known"
    return Transition(
        to=to,
        reason=reason,
        at=now,
        due_at=now,
        outcome=Outcome(error=error),
        verdict=OUTCOME_UNKNOWN,
        evidence={**evidence, "on_restart": terms.on_restart.value},
    )


def decide_recovery(
    action: Action,
    state: RunState,
    record: ExitRecord | None,
    terms: Terms,
    now: datetime,
    jitter: float,
    *,
    mode: str = TASK,
    doubtful: bool = False,
) -> Transition | Adopt:
    """What a STARTED row becomes when `agentd` has asked the runner about it."""
    if state is RunState.RUNNING:
        return Adopt()
    if state is RunState.EXITED and record is not None:
        return decide_end(
            action, record, terms, now, jitter,
            mode=mode, verdict=FINISHED_WHILE_AWAY, doubtful=doubtful,
        )  # fmt: skip
    if state is RunState.NEVER_STARTED:
        return Transition(
            to=ExecutionStatus.NULL,
            reason=Reason.NEVER_STARTED,
            at=now,
            due_at=now,
            verdict=NEVER_STARTED,
            evidence={"runner": state.value},
        )
    return decide_unknown(action, terms, now, {"runner": state.value}, doubtful=doubtful)


def _outcome(record: ExitRecord) -> Outcome:
    return Outcome(
        started_at=record.started_at,
        ended_at=record.ended_at,
        exit_code=record.code,
        signal=record.signal,
        error=_error(record),
        output=record.output or None,
    )


def _error(record: ExitRecord) -> str | None:
    if record.spawn_error is not None:
        return record.spawn_error
    survivors = f"{record.survivors} of its processes survived KILL" if record.survivors else None
    if record.stop_cause == "timeout":
        told = "stopped because its timeout passed"
        return f"{told}; {survivors}" if survivors else told
    if record.stop_cause != "none":
        return survivors
    if record.limit is not None:
        return f"exceeded its limit {record.limit} ({_how_it_ended(record)})"
    if record.signal is not None:
        return f"ended by signal {record.signal} ({signal_name(record.signal)})"
    return f"exit code {record.code}" if record.code else None


def _how_it_ended(record: ExitRecord) -> str:
    if record.signal is not None:
        return f"signal {record.signal}, {signal_name(record.signal)}"
    return f"exit code {record.code}"


def _evidence(record: ExitRecord) -> dict[str, Any]:
    found = {
        "code": record.code,
        "signal": record.signal,
        "stop_cause": None if record.stop_cause == "none" else record.stop_cause,
        "stopped_at": maybe_format(record.stopped_at),
        "killed_at": maybe_format(record.killed_at),
        "spawn_error": record.spawn_error,
        "survivors": record.survivors or None,
        "limit": record.limit,
        "duration_s": record.duration_s,
    }
    return {key: value for key, value in found.items() if value is not None}


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; the number itself where it has no name."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return str(number)
