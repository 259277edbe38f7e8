"""The node's half of an action as JSON: what is reported beside the definition (DESIGN §4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.domain.action import ERROR_CHARS_MAX, Action
from agent.domain.errors import Fault, InvalidDocument
from agent.domain.instants import maybe_format
from agent.domain.lifecycle import ExecutionStatus
from agent.wire import fields as f
from agent.wire.fields import Field, read_fields

MISSED_BYTES_MAX = 4096
OUTPUT_BYTES_MAX = 32 * 1024  # the 4 KiB tail, each byte an escape of six in the worst case, sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Execution status as the other side reads it."""

    execution_status: ExecutionStatus
    reason: str | None = None
    attempt: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    verdict: str | None = None
    output: Mapping[str, Any] | None = None
    missed: Mapping[str, Any] | None = None


def encode_execution(action: Action) -> dict[str, Any]:
    """Always all members, null where there is nothing: other people's programs read this."""
    return {
        "execution_status": action.execution_status.value,
        "reason": action.reason,
        "attempt": action.attempt,
        "started_at": maybe_format(action.started_at),
        "ended_at": maybe_format(action.ended_at),
        "exit_code": action.exit_code,
        "signal": action.signal,
        "error": action.error,
        "verdict": action.verdict,
        "output": action.output,
        "missed": action.missed,
    }


_FIELDS: Mapping[str, Field] = {
    "execution_status": Field(f.choice(ExecutionStatus), required=True),
    "reason": Field(f.text(64)),  # unknown reasons are stored as they are
    "attempt": Field(f.integer(0, 2**31)),
    "started_at": Field(f.instant),
    "ended_at": Field(f.instant),
    "exit_code": Field(f.integer(-(2**31), 2**31)),
    "signal": Field(f.integer(0, 1024)),
    "error": Field(f.text(ERROR_CHARS_MAX)),
    "verdict": Field(f.text(64)),
    "output": Field(f.json_object(OUTPUT_BYTES_MAX)),
    "missed": Field(f.json_object(MISSED_BYTES_MAX)),
}


def decode_execution(document: Any) -> Execution:
    """Raises `InvalidDocument` with every fault; unknown members are ignored."""
    if not isinstance(document, dict):
        raise InvalidDocument([Fault("execution", "must be an object")])
    values, faults = read_fields(document, _FIELDS)
    if faults:
        raise InvalidDocument(faults)
    return Execution(**values)
