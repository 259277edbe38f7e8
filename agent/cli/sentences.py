"""Why an action is where it is, as one sentence: from the values that every API of ours reports.

Pure. One template per reason of the lifecycle; a reason of a newer version is shown as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agent.cli.times import age_s, duration, span

_ENDED: Mapping[str, str] = {
    "withdrawn": "It was withdrawn by whoever asked for it",
    "rejected": "It was rejected",
    "cancelled_on_node": "It was cancelled on this node",
    "window_passed": "Its window closed before it could start",
    "missed": "Its start deadline passed before it could start",
    "overlap": "An earlier one was still running",
    "expired": "Its approval expired",
    "superseded": "A newer one took its place",
    "unknown_kind": "Its kind is not installed on this node, or cannot be used",
    "bad_payload": "Its payload is not what its kind takes",
    "dry_run_unsupported": "Its kind has no dry run, and it was not run for real",
    "exit_zero": "It ran and exited 0",
    "exit_nonzero": "It ran and exited {exit_code}",
    "signalled": "It was ended by signal {signal} (not sent by agentd)",
    "timeout": "It was stopped because its timeout passed",
    "spawn_failed": "It could not be started",
    "interrupted": "It was interrupted, and how it ended cannot be known",
    "window_closed": "Its window closed while it ran, and it was stopped",
    "retry_abandoned": "Its retries were given up",
}
_WAITING: Mapping[str, str] = {
    "rerun": "how the last attempt ended cannot be known, so it runs again",
    "retry": "the last attempt failed and it is tried again",
    "hold_restart": "it ended early and is started again",
    "never_started": "the last start is known never to have happened",
}
_NEVER_RAN = frozenset({"unknown_kind", "spawn_failed", "dry_run_unsupported", "bad_payload"})
"""Reasons of an attempt that no script saw: how long it took would say nothing."""
_VERDICTS: Mapping[str, str] = {
    "finished_while_away": "it ended while agentd was away, and the runner kept the result",
    "adopted": "agentd was restarted meanwhile and took it over as it ran",
    "never_started": "the runner knows that the attempt never started",
    "outcome_unknown": "neither agentd nor the runner saw how it ended",
}


def explain(action: Mapping[str, Any], now: datetime) -> str:
    """One sentence about an action as `show --json` has it."""
    status = action["execution_status"]
    if status == "NULL":
        return _waiting(action, now)
    verdict = _VERDICTS.get(action.get("verdict") or "")
    told = _running(action, now) if status == "STARTED" else _ended(action)
    return f"{told}; {verdict}." if verdict else f"{told}."


def _ended(action: Mapping[str, Any]) -> str:
    reason = action.get("reason") or "no reason"
    template = _ENDED.get(reason)
    if reason == "withdrawn" and action["execution_status"] == "WONT_FINISH":
        template = "It was withdrawn while it ran, and stopped"
    elif reason == "cancelled_on_node" and action["execution_status"] == "WONT_FINISH":
        template = "It was cancelled on this node while it ran, and stopped"
    elif reason == "window_closed" and action["execution_status"] == "FINISHED":
        template = "It was kept running until its window closed"
    elif action.get("missed"):
        template = _missed(action["missed"])
    told = reason if template is None else template.format_map(_Blank(action))
    seconds = duration(action.get("started_at"), action.get("ended_at"))
    return told if seconds is None or reason in _NEVER_RAN else f"{told} after {span(seconds)}"


def _missed(missed: Mapping[str, Any]) -> str:
    """One row may stand for a whole storm of instants."""
    count = missed["count"]
    if count == 1:
        return "Its instant passed without a start"
    at_least = "" if missed.get("counted_all", True) else "at least "
    return f"It stands for {at_least}{count} instants that passed without a start"


def _running(action: Mapping[str, Any], now: datetime) -> str:
    told = f"It has been running for {span(max(0.0, age_s(action.get('started_at'), now)))}"
    stopping = action.get("stopping")
    return f"{told} and is being stopped ({stopping})" if stopping else told


def _waiting(action: Mapping[str, Any], now: datetime) -> str:
    again = _WAITING.get(action.get("reason") or "")
    late_s = age_s(action.get("due_at"), now)
    match action.get("phase"):
        case "PENDING_APPROVAL":
            told = "It waits for approval"
        case "CANCELLED":
            told = "It was withdrawn"
        case "REJECTED":
            told = "It was rejected, and never started"
        case "EXPIRED":
            told = "Its approval expired before it started"
        case "SCHEDULED":
            told = f"It starts in {span(max(0.0, -late_s))}"
        case "PAUSED":
            told = f"It has been due for {span(max(0.0, late_s))}, but this node is paused"
        case _:
            told = f"It has been due for {span(max(0.0, late_s))} and waits for its turn"
    return f"{told}: {again}." if again else f"{told}."


class _Blank(dict[str, Any]):
    """What a template asks for and the action does not have is shown as `?`."""

    def __missing__(self, key: str) -> str:
        return "?"
