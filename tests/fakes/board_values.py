"""What a node may answer, for tests of how it is shown."""

from __future__ import annotations

from typing import Any


def status(**members: Any) -> dict[str, Any]:
    return {
        "agent_id": "n1", "daemon": "running", "version": "0.1.0", "pid": 100,
        "uptime_s": 93784.0, "started_at": "2026-01-14T00:00:00Z", "seq": 12,
        "counts": {"NULL": 3, "STARTED": 0, "FINISHED": 12, "FAILED": 1, "WONT_START": 2,
                   "WONT_FINISH": 0},
        "queued": 1, "next_due_at": None, "paused": False, "pause_reason": None, "brakes": [],
        "braked": 0, "parked": 0, "restored": None, "paused_by": None, "paused_at": None,
        "draining": False, "refused_definitions": 0, "store_problem": None, "running": [],
        "clock": {"state": "trusted", "now": "2026-01-15T12:00:00Z"},
        "core": {"url": None, "enrolled": False, "connected": False, "last_pull_at": None,
                 "outbox": 0, "fenced": False, "polling": False, "problem": None},
        "runner": {"connected": True, "pid": 101, "version": "0.1.0", "problem": None},
        **members,
    }  # fmt: skip


def running(action_id: str = "a1", **members: Any) -> dict[str, Any]:
    return {
        "id": action_id, "kind": "backup", "attempt": 1, "started_at": "2026-01-15T11:58:48Z",
        "stopping": None, "progress": {"percent": 40.0, "message": "copying"}, **members,
    }  # fmt: skip


def summary(action_id: str = "a1", **members: Any) -> dict[str, Any]:
    return {
        "id": action_id, "kind": "backup", "phase": "QUEUED", "execution_status": "NULL",
        "reason": None, "attempt": 0, "owner": "node", "due_at": "2026-01-15T11:59:00Z",
        "from_date": None, "to_date": None, "started_at": None, "ended_at": None,
        "exit_code": None, "error": None, "accepted_at": "2026-01-15T11:00:00Z", "labels": {},
        **members,
    }  # fmt: skip


def ended(action_id: str = "e1", **members: Any) -> dict[str, Any]:
    return summary(
        action_id, phase="FAILED", execution_status="FAILED", reason="exit_nonzero", exit_code=7,
        attempt=1, started_at="2026-01-15T11:58:00Z", ended_at="2026-01-15T11:59:48Z",
    ) | members  # fmt: skip


def fire(action_id: str = "nightly", **members: Any) -> dict[str, Any]:
    return {
        "id": action_id, "kind": "backup", "nominal_at": "2026-01-15T12:04:12Z",
        "starts_at": "2026-01-15T12:04:12Z", "ends_at": None, "notes": [], **members,
    }  # fmt: skip


def no_options() -> dict[str, Any]:
    """What click hands over where no option of a definition was given."""
    names = (
        "payload", "metadata", "timeout", "at", "delay", "until", "words", "cron", "every", "date",
        "after", "begin", "timezone", "duration", "jitter", "overlap", "catch_up", "catch_up_age",
        "catch_up_count", "count_from", "ends_at", "max_runs", "attempts", "on_restart",
        "start_deadline", "correlation_id",
    )  # fmt: skip
    return {**dict.fromkeys(names), "labels": (), "apps": (), "dry_run": False}
