"""Evidence of a decision, as the API tells it, in words short enough for a column. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent.cli.times import clock_time, span

_NAMES: Mapping[str, str] = {
    "code": "exit code",
    "exit_code": "exit code",
    "late_s": "late",
    "duration_s": "ran",
    "due_at": "again at",
    "ahead": "ahead of it",
    "held_by": "held by",
}
ON_TIME_S = 0.001


def in_words(evidence: Mapping[str, Any] | None) -> str:
    """`exit code 7, ran 1.2 s`; members of later versions keep their names.

    >>> in_words({"code": 7, "duration_s": 1.25, "late_s": 0.0})
    'exit code 7, ran 1.2 s, on time'
    """
    return ", ".join(_parts(evidence or {}))


def _parts(evidence: Mapping[str, Any]) -> Iterator[str]:
    for key, value in evidence.items():
        name = _NAMES.get(key, key.removesuffix("_s").replace("_", " "))
        if value is None or value == []:
            continue
        if key == "late_s" and isinstance(value, int | float):
            yield f"{span(value)} late" if value >= ON_TIME_S else "on time"
        elif key == "missed" and isinstance(value, Mapping):
            yield missed(value)
        elif key.endswith("_s") and isinstance(value, int | float):
            yield f"{name} {span(value)}"
        elif key.endswith("_at") and isinstance(value, str):
            yield f"{name} {clock_time(value)}"
        elif isinstance(value, bool):
            yield name if value else f"not {name}"
        else:
            yield f"{name} {_plain(value)}"


def telling(evidence: Mapping[str, Any] | None, reason: str | None) -> dict[str, Any]:
    """Without what stands beside it anyway, or says nothing."""
    kept = dict(evidence or {})
    kept.pop("revision", None)
    said = {
        "failure": reason,
        "failures": 1,  # only a second one says anything
        "error": f"exit code {kept.get('code')}",
    }
    return {key: value for key, value in kept.items() if key not in said or value != said[key]}


def missed(value: Mapping[str, Any]) -> str:
    """The range that one row stands for."""
    at_least = "" if value.get("counted_all", True) else "at least "
    last = f" to {clock_time(value['last'])}" if value["last"] != value["first"] else ""
    why = f" ({value['why']})" if value.get("why") else ""
    return f"{at_least}{value['count']} missed: {clock_time(value['first'])}{last}{why}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping) and "id" in value:
        return str(value["id"])
    if isinstance(value, list):
        return " ".join(_plain(one) for one in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
