"""What the local API answers, as plain values: one place, so that all doors say the same."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

from agent.domain.action import Action
from agent.domain.errors import NotFound
from agent.domain.instants import format_instant, maybe_format
from agent.domain.lane import Lane
from agent.domain.manifest import Manifest
from agent.domain.phase import phase_of
from agent.node.ports import Progress
from agent.node.store import actions, events
from agent.node.what_is_lost import loss_hint
from agent.wire.definition import encode_definition
from agent.wire.execution import encode_execution

HISTORY_MAX = 1_000


def action_view(
    action: Action, now: datetime, *, paused: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """An action as `show --json` has it: definition and execution on one level."""
    definition = action.definition
    phase = phase_of(
        definition, action.execution_status, action.reason, action.due_at, now, paused=paused
    )
    view = encode_definition(definition)
    view |= encode_execution(action)
    view |= {
        "phase": phase.value,
        "accepted_at": format_instant(action.accepted_at),
        "due_at": maybe_format(action.due_at),
        "parallel": action.lane is Lane.PARALLEL,
        "lane": action.lane.word,
        "stopping": action.stop_cause if not action.is_final else None,
        "parked": action.parked if not action.is_final else None,
        "progress": progress_view(progress),
    }
    return view


def progress_view(progress: Progress | None) -> dict[str, Any] | None:
    """Progress as JSON, or None where the script told none."""
    if progress is None:
        return None
    return {"percent": progress.percent, "message": progress.message}


def summary_view(action: Action, now: datetime, *, paused: bool = False) -> dict[str, Any]:
    """An action as a line of a list."""
    full = action_view(action, now, paused=paused)
    return {name: full.get(name) for name in SUMMARY_FIELDS}


SUMMARY_FIELDS = (
    "id", "kind", "phase", "execution_status", "reason", "attempt", "owner", "due_at",
    "from_date", "to_date", "started_at", "ended_at", "exit_code", "error", "accepted_at",
    "parked", "labels", "recurring_id", "nominal_at", "missed",
)  # fmt: skip


def history_view(connection: sqlite3.Connection, action_id: str) -> dict[str, Any]:
    """Every recorded fact about one action, or a recurring one, oldest first. Raises `NotFound`."""
    action = actions.by_id(connection, action_id)
    if action is not None:
        found = events.of_action(connection, action.row, HISTORY_MAX)
    elif _recurs(connection, action_id):
        found = events.of_rule(connection, action_id, HISTORY_MAX)
    else:
        raise _not_found(connection, action_id)
    return {"id": action_id, "events": [event.plain() for event in found]}


def find(connection: sqlite3.Connection, action_id: str) -> Action:
    """The action, or `NotFound`."""
    action = actions.by_id(connection, action_id)
    if action is None:
        raise _not_found(connection, action_id)
    return action


def _not_found(connection: sqlite3.Connection, action_id: str) -> NotFound:
    hint = ""
    if _recurs(connection, action_id):
        hint = (
            f"; it is a recurring action (agentctl recurring show {action_id}), and these are its "
            f"occurrences: agentctl list --recurring {action_id}"
        )
    hint = hint or loss_hint(connection)
    return NotFound(f"there is no action {action_id!r} on this node{hint}")


def _recurs(connection: sqlite3.Connection, rule_id: str) -> bool:
    """(Not by `agent.node.store.recurring`: that would load the arithmetic of schedules.)"""
    found = connection.execute("SELECT 1 FROM recurring WHERE id = ?", (rule_id,)).fetchone()
    return found is not None


def kind_view(manifest: Manifest) -> dict[str, Any]:
    """A kind as `agentctl kinds --json` has it."""
    return {
        "kind": manifest.kind,
        "description": manifest.description,
        "risk_level": manifest.risk_level,
        "mode": manifest.mode,
        "parallel": manifest.parallel,
        "timeout_s": manifest.timeout_s,
        "grace_s": manifest.grace_s,
        "on_restart": manifest.on_restart,
        "dry_run": manifest.dry_run,
        "rollback": manifest.rollback,
        "user": manifest.user,
        "limits": dict(manifest.limits),
        "payload_schema": manifest.payload_schema,
        "path": manifest.path,
        "digest": manifest.digest,
        "faults": list(manifest.faults),
    }
