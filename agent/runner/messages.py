"""Requests as they must look: from a line of JSON to checked values, all faults in one message.

Pure. What passes here has the right types and sizes; whether it makes sense now is asked elsewhere.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

from agent.runner import naming
from agent.runner.limits import (
    GRACE_S_MAX,
    INTEGER_MAX,
    LIST_ITEMS_MAX,
    OUTPUT_CHUNK_BYTES_MAX,
    PROGRESS_ITEMS_MAX,
    TIMEOUT_S_MAX,
)
from agent.runner.names import BOTH, STREAMS, Key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[Any], str | None]

CAUSES = ("withdrawn", "cancelled_on_node", "overlap", "window")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z")
_MISSING = object()


class BadRequest(Exception):
    """The message names every fault, with its value."""


class Field(NamedTuple):
    """One member of a request."""

    check: Check
    default: Any = _MISSING  # without one the member must be there


# -- the frame ------------------------------------------------------------------------------


def decode_line(line: bytes) -> dict[str, Any]:
    """One frame's JSON object; BadRequest if it is anything else."""
    try:
        value = _decode_json(line.decode())
    except UnicodeDecodeError as error:
        raise BadRequest(f"not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise BadRequest("nested too deeply") from None
    except ValueError as error:
        raise BadRequest(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest(f"{_show(value)} is not an object")
    return value


def check_members(kind: str, message: dict[str, Any]) -> dict[str, Any]:
    """All members of a request of this kind, defaults filled in; BadRequest with all faults."""
    fields = REQUESTS[kind]
    faults = [f"{name} is unknown" for name in message if name not in fields and name not in _FRAME]
    values = {}
    for name, field in fields.items():
        value = message.get(name, field.default)
        if value is _MISSING:
            faults.append(f"{name} is missing")
        elif fault := field.check(value):
            faults.append(f"{name} {fault}, not {_show(value)}")
        values[name] = value
    if faults:
        raise BadRequest(f"{kind}: {'; '.join(faults)}")
    return values


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"{_show(name)} more than once in one object")
            seen.add(name)
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


_decode_json = json.JSONDecoder(
    object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant
).decode


def _show(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


# -- the members ----------------------------------------------------------------------------


def integer(low: int, high: int = INTEGER_MAX) -> Check:
    """From `low` to `high`; true and false are no integers."""

    def check(value: Any) -> str | None:
        if type(value) is int and low <= value <= high:
            return None
        return f"must be an integer from {low} to {high}"

    return check


def number_or_null(low: float, high: float, *, above: bool = False) -> Check:
    """Finite, from (or above) `low` to `high`, or null."""

    def check(value: Any) -> str | None:
        if value is None:
            return None
        is_number = type(value) in (int, float) and math.isfinite(value)
        if is_number and low <= value <= high and not (above and value == low):
            return None
        return f"must be null or a number {'above' if above else 'from'} {low:g} to {high:g}"

    return check


def matching(pattern: re.Pattern[str]) -> Check:
    """A string of this form."""

    def check(value: Any) -> str | None:
        if isinstance(value, str) and pattern.match(value):
            return None
        return f"must be a string matching {pattern.pattern.removesuffix(chr(92) + 'Z')}"

    return check


def one_of(*allowed: str) -> Check:
    """One of these strings."""

    def check(value: Any) -> str | None:
        return None if value in allowed else f"must be one of {', '.join(allowed)}"

    return check


def text_or_null(value: Any) -> str | None:
    """A string of at most 1,024 characters, or null."""
    if value is None or (isinstance(value, str) and len(value) <= 1_024):
        return None
    return "must be null or a string of at most 1024 characters"


def reference(value: Any) -> str | None:
    """An id, `state:<ref>`, or an inline definition."""
    if isinstance(value, dict) or text_or_null(value) is None:
        return None
    return "must be null, a string of at most 1024 characters or an object"


def mapping(value: Any) -> str | None:
    """A JSON object."""
    return None if isinstance(value, dict) else "must be an object"


def boolean(value: Any) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else "must be true or false"


def strings(value: Any) -> str | None:
    """A list of strings."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return None
    return "must be a list of strings"


def keys(items_max: int) -> Check:
    """A list of [row, start_no]."""

    def check(value: Any) -> str | None:
        if (
            isinstance(value, list)
            and len(value) <= items_max
            and all(isinstance(item, list) and len(item) == 2 for item in value)
            and all(type(no) is int and 1 <= no <= INTEGER_MAX for item in value for no in item)
        ):
            return None
        return f"must be a list of at most {items_max} pairs [row, start_no] of positive integers"

    return check


def key_or_null(value: Any) -> str | None:
    """One [row, start_no], or null."""
    if value is None or keys(1)([value]) is None:
        return None
    return "must be null or a pair [row, start_no] of positive integers"


def protocols(value: Any) -> str | None:
    """A list of version numbers."""
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return None
    return "must be a list of integers"


_FRAME = ("n", "op")
_KEY = {"row": Field(integer(1)), "start_no": Field(integer(1))}
_RUN = {**_KEY, "id": Field(matching(_ID))}
_STOP_AT = number_or_null(0, 253_402_300_800)  # the year 9999
_GRACE = Field(number_or_null(0, GRACE_S_MAX), None)
REQUESTS: dict[str, dict[str, Field]] = {
    "hello": {"protocols": Field(protocols), "generation": Field(integer(0))},
    "start": {
        **_RUN,
        "attempt": Field(integer(1)),
        "kind": Field(matching(naming.KIND)),
        "payload": Field(mapping),
        "metadata": Field(mapping, {}),
        "app_names": Field(strings, []),
        "from_date": Field(text_or_null, None),
        "to_date": Field(text_or_null, None),
        "correlation_id": Field(text_or_null, None),
        "rollback_reference": Field(reference, None),
        "dry_run": Field(boolean, False),
        "timeout_s": Field(number_or_null(0, TIMEOUT_S_MAX, above=True), None),
        "grace_s": _GRACE,
        "stop_at": Field(_STOP_AT, None),
    },
    "claim": _RUN,
    "stop": {**_RUN, "cause": Field(one_of(*CAUSES)), "grace_s": _GRACE},
    "deadline": {**_RUN, "stop_at": Field(_STOP_AT)},
    "collected": {"items": Field(keys(LIST_ITEMS_MAX))},
    "forget": {"items": Field(keys(LIST_ITEMS_MAX))},
    "kinds": {"known": Field(text_or_null, None)},
    "output": {
        **_KEY,
        "stream": Field(one_of(*STREAMS, BOTH)),
        "offset": Field(integer(0)),
        "limit": Field(integer(1, OUTPUT_CHUNK_BYTES_MAX), OUTPUT_CHUNK_BYTES_MAX),
    },
    "progress": {"items": Field(keys(PROGRESS_ITEMS_MAX))},
    "records": {"after": Field(key_or_null, None)},
    "status": {},
    "leave": {},
}


def key_of(values: dict[str, Any]) -> Key:
    """The run that a checked request names."""
    return Key(values["row"], values["start_no"])
