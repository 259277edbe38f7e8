"""Reads `<kind>.toml`: strictly, purely, and with all faults at once.

A key that this version cannot honour is a fault, not a silence: a manifest that asks for a limit
must not run without it.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

from agent.runner import manifest_checks as checks
from agent.runner.limits import (
    GRACE_S_MAX,
    OUTPUT_CAP_BYTES_MAX,
    OUTPUT_CAP_BYTES_MIN,
    TIMEOUT_S_MAX,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.runner.manifest_checks import Check

DEFAULTS: dict[str, Any] = {
    "description": "",
    "risk_level": None,
    "mode": "task",
    "parallel": False,
    "timeout_s": None,
    "grace_s": None,
    "on_restart": None,
    "retry": None,
    "payload_schema": None,
    "dry_run": False,
    "rollback": None,
    "leftovers": "stop",
    "user": None,
    "limits": None,
}
_SIZES = ("memory_bytes", "file_bytes", "output_bytes")
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}\$?\Z")


def parse_manifest(text: bytes) -> tuple[dict[str, Any], list[str]]:
    """(manifest with all defaults filled in, faults). With faults the kind must not run."""
    try:
        table = tomllib.loads(text.decode())
    except UnicodeDecodeError as error:
        return dict(DEFAULTS), [f"is not UTF-8 (byte {error.start})"]
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return dict(DEFAULTS), [f"is not TOML: {error}"]
    faults = []
    manifest = dict(DEFAULTS)
    for key, value in table.items():
        if key not in _CHECKS:
            faults.append(f"{key} is unknown{checks.nearest(key, _CHECKS)}")
        elif fault := _CHECKS[key](value):
            faults.append(f"{key}{fault}" if fault.startswith(".") else f"{key} {fault}")
        else:
            manifest[key] = value
    _read_schema(manifest, faults)
    if manifest["limits"] is not None:
        manifest["limits"] = _in_bytes(manifest["limits"])
    return manifest, faults


def _in_bytes(limits: dict[str, Any]) -> dict[str, Any]:
    return {
        key: checks.parse_size(value) if key in _SIZES else value for key, value in limits.items()
    }


def _read_schema(manifest: dict[str, Any], faults: list[str]) -> None:
    """A string holds JSON, for what TOML cannot say (null). Both must be JSON in the end."""
    schema = manifest["payload_schema"]
    try:
        if isinstance(schema, str):
            schema = json.loads(schema)
            if not isinstance(schema, dict):
                raise ValueError("not an object")
        json.dumps(schema, allow_nan=False)
        astray = sorted((set(_CHECKS) & set(schema or {})) - {"description"})
        if astray:
            # TOML gives a line to the table above it: a limit there would limit nothing.
            faults.append(f"{', '.join(astray)} stands in payload_schema; move it above the table")
    except (ValueError, TypeError, RecursionError) as error:
        faults.append(f"payload_schema is not a JSON object: {error}")
        schema = None
    manifest["payload_schema"] = schema


def _schema(value: Any) -> str | None:
    return None if isinstance(value, dict | str) else "must be a table, or a string holding JSON"


def _user(value: Any) -> str | None:
    if isinstance(value, str) and _USER.match(value):
        return None
    return f"is {value!r}; it must be the name of an account"


_SIZE_MAX = 1 << 50
_RETRY_CHECKS: dict[str, Check] = {
    "max_attempts": checks.integer(1, 1_000),
    "delay_s": checks.number(0, TIMEOUT_S_MAX),
    "backoff": checks.number(1, 100),
    "max_delay_s": checks.number(0, TIMEOUT_S_MAX),
}
_LIMIT_CHECKS: dict[str, Check] = {
    "cpu_s": checks.integer(1, 10**8),
    "cpu_percent": checks.number(1, 100_000),
    "memory_bytes": checks.size(4 << 20, _SIZE_MAX),
    "processes": checks.integer(1, 4_000_000),
    "files": checks.integer(16, 1_000_000),
    "file_bytes": checks.size(0, _SIZE_MAX),
    "output_bytes": checks.size(OUTPUT_CAP_BYTES_MIN, OUTPUT_CAP_BYTES_MAX),
}
_CHECKS: dict[str, Check] = {
    "description": checks.string(1_000),
    "risk_level": checks.choice("safe", "guarded", "dangerous"),
    "mode": checks.choice("task", "hold"),
    "parallel": checks.boolean,
    "timeout_s": checks.number(0, TIMEOUT_S_MAX, above=True),
    "grace_s": checks.number(0, GRACE_S_MAX),
    "on_restart": checks.choice("rerun", "never"),
    "retry": checks.table(_RETRY_CHECKS),
    "payload_schema": _schema,
    "dry_run": checks.boolean,
    "rollback": checks.string(64),
    "leftovers": checks.choice("stop", "leave"),
    "user": _user,
    "limits": checks.table(_LIMIT_CHECKS),
}
