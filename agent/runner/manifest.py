"""Reads `<kind>.toml`: strictly, purely, and with all faults at once.

A key that this version cannot honour is a fault, not a silence: a manifest that asks for a limit
must not run without it.
"""

from __future__ import annotations

import json
import math
import tomllib
from typing import Any

from agent.runner.limits import GRACE_S_MAX, TIMEOUT_S_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[Any], str | None]

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
}
_UNSUPPORTED = ("user", "limits")


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
        if key in _UNSUPPORTED:
            faults.append(f"{key} is not supported by this version")
        elif key not in _CHECKS:
            faults.append(f"{key} is unknown{_nearest(key, [*_CHECKS, *_UNSUPPORTED])}")
        elif fault := _CHECKS[key](value):
            faults.append(f"{key} {fault}")
        else:
            manifest[key] = value
    _read_schema(manifest, faults)
    return manifest, faults


def _nearest(key: str, known: list[str]) -> str:
    nearest = min(known, key=lambda name: _distance(key, name))
    if _distance(key, nearest) <= max(2, len(nearest) // 3):
        return f"; did you mean {nearest}?"
    return f"; known are {', '.join(sorted(known))}"


def _distance(first: str, second: str) -> int:
    """Levenshtein's (`difflib` would cost 0.2 MB resident for this one message)."""
    row = list(range(len(second) + 1))
    for above, left in enumerate(first[:64], start=1):
        diagonal, row[0] = row[0], above
        for index, top in enumerate(second, start=1):
            cost = diagonal + (left != top)
            diagonal, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, cost)
    return row[-1]


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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(low: float, high: float, *, above: bool = False) -> Check:
    def check(value: Any) -> str | None:
        if _is_number(value) and low <= value <= high and not (above and value == low):
            return None
        limits = f"{'above' if above else 'from'} {low:g} to {high:g}"
        return f"is {value!r}; it must be a number {limits}"

    return check


def _integer(low: int, high: int) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return None
        return f"is {value!r}; it must be an integer from {low} to {high}"

    return check


def _choice(*allowed: str) -> Check:
    def check(value: Any) -> str | None:
        return None if value in allowed else f"is {value!r}; it must be {' or '.join(allowed)}"

    return check


def _string(chars_max: int) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, str) and len(value) <= chars_max:
            return None
        return f"must be a string of at most {chars_max} characters"

    return check


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"is {value!r}; it must be true or false"


def _schema(value: Any) -> str | None:
    return None if isinstance(value, dict | str) else "must be a table, or a string holding JSON"


def _retry(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "must be a table"
    faults = []
    for key, part in value.items():
        if key not in _RETRY_CHECKS:
            faults.append(f".{key} is unknown{_nearest(key, list(_RETRY_CHECKS))}")
        elif fault := _RETRY_CHECKS[key](part):
            faults.append(f".{key} {fault}")
    return ", ".join(faults) or None


_RETRY_CHECKS: dict[str, Check] = {
    "max_attempts": _integer(1, 1_000),
    "delay_s": _number(0, TIMEOUT_S_MAX),
    "backoff": _number(1, 100),
    "max_delay_s": _number(0, TIMEOUT_S_MAX),
}
_CHECKS: dict[str, Check] = {
    "description": _string(1_000),
    "risk_level": _choice("safe", "guarded", "dangerous"),
    "mode": _choice("task", "hold"),
    "parallel": _boolean,
    "timeout_s": _number(0, TIMEOUT_S_MAX, above=True),
    "grace_s": _number(0, GRACE_S_MAX),
    "on_restart": _choice("rerun", "never"),
    "retry": _retry,
    "payload_schema": _schema,
    "dry_run": _boolean,
    "rollback": _string(64),
    "leftovers": _choice("stop", "leave"),
}
