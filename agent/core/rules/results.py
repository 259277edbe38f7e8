"""What a rule may decide: its parameters, their bounds, and the `Verdict` that they make.

Read by both forms: the `action:` of a YAML rule by the names of its members, a call in a `.cel`
file by the order of its arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.core.rules.verdict import DELAY_S_MAX, DELAY_S_MIN, Result, Verdict
from agent.domain.definition import RiskLevel
from agent.domain.errors import shown
from agent.wire import fields as f
from agent.wire.fields import Reader

REASON_CHARS_MAX = 1024


def _whole(low: int, high: int) -> Reader:
    """A whole number, also where a computation made it a float."""
    read = f.integer(low, high)

    def whole(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        found: int = read(value)
        return found

    return whole


READERS: Mapping[str, Reader] = {
    "delay_seconds": _whole(DELAY_S_MIN, DELAY_S_MAX),
    "ttl_seconds": _whole(DELAY_S_MIN, DELAY_S_MAX),
    "reason": f.text(REASON_CHARS_MAX),
    "risk_level": f.choice(RiskLevel),
    "min_confidence": f.number(0, 1),
}
_MEMBER_OF = {"delay_seconds": "delay_s", "ttl_seconds": "ttl_s"}

PARAMETERS: Mapping[Result, tuple[str, ...]] = {
    Result.ALLOW: ("risk_level", "reason"),
    Result.SCHEDULE: ("delay_seconds", "reason"),
    Result.REQUIRE_APPROVAL: ("reason", "risk_level"),
    Result.AUTO_APPROVE: ("min_confidence", "reason"),
    Result.SUPPRESS: ("reason",),
    Result.DEDUPLICATE: ("ttl_seconds", "reason"),
}
"""What each result takes, in the order of a call's arguments."""
NEEDED: Mapping[Result, str] = {Result.SCHEDULE: "delay_seconds"}


def verdict_of(result: Result, values: Mapping[str, Any]) -> Verdict:
    """The verdict of parameters that were read."""
    return Verdict(
        result=result, **{_MEMBER_OF.get(name, name): value for name, value in values.items()}
    )


def read_call(name: str, arguments: Sequence[Any]) -> Verdict | None:
    """The verdict of a call in CEL; None of `allow()`, which says nothing. Raises `ValueError`."""
    result = Result(name)
    names = PARAMETERS[result]
    if len(arguments) > len(names):
        raise ValueError(
            f"{name}() takes at most {len(names)} ({', '.join(names)}), not {len(arguments)}"
        )
    values = {}
    for parameter, raw in zip(names, arguments, strict=False):
        try:
            values[parameter] = READERS[parameter](raw)
        except ValueError as error:
            raise ValueError(f"{name}(): {parameter} {error}") from None
    needed = NEEDED.get(result)
    if needed is not None and needed not in values:
        raise ValueError(f"{name}() needs {needed}, as {name}(3600)")
    if result is Result.ALLOW and not values:
        return None
    return verdict_of(result, values)


def word_of(verdict: Verdict) -> str:
    """A verdict in short, for people: `schedule 3600 s`."""
    told = verdict.result.value
    if verdict.delay_s is not None:
        told += f" {verdict.delay_s} s"
    if verdict.ttl_s is not None:
        told += f" {verdict.ttl_s:g} s"
    if verdict.risk_level is not None:
        told += f" (risk {verdict.risk_level.value})"
    if verdict.min_confidence is not None:
        told += f" (confidence {verdict.min_confidence:g})"
    return told


def unknown_result(word: Any) -> str:
    """Why a `type:` is none of ours."""
    known = [result.value for result in Result]
    hint = f.nearest(word, known) if isinstance(word, str) else ""
    return f"{shown(word)} is not one of {', '.join(known)}{hint}"
