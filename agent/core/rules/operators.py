"""The comparisons of a YAML condition. Pure.

Each is made once, from the rule's own value (a bad one raises `ValueError` at load), and then asked
about the values of actions. Two values are equal only if they are of one type (1 is not true, and
not "1"). An order or a search that the types do not have raises `RuleFailed`: a rule that cannot be
answered is not a rule that does not match.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from agent.core.rules.rule import RuleFailed
from agent.domain.errors import shown
from agent.domain.instants import parse_instant

Test = Callable[[Any], bool]
IN_ENTRIES_MAX = 1000
_INSTANT_CHARS_MIN, _INSTANT_CHARS_MAX = 17, 35  # without seconds; with nanoseconds


def instant_or_none(value: Any) -> datetime | None:
    """The instant that a text names, if it is RFC 3339 with a zone."""
    if not isinstance(value, str) or not _INSTANT_CHARS_MIN <= len(value) <= _INSTANT_CHARS_MAX:
        return None
    if not value[:4].isdigit():
        return None
    try:
        return parse_instant(value)
    except ValueError:
        return None


def equal(left: Any, right: Any) -> bool:
    """One type, one value; two dates, one instant."""
    if _is_number(left) and _is_number(right):
        return bool(left == right)
    if type(left) is not type(right):
        return False
    if isinstance(left, str):
        if left == right:
            return True
        ours = instant_or_none(left)
        return ours is not None and ours == instant_or_none(right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _order(word: str, holds: Callable[[Any, Any], bool]) -> Callable[[Any], Test]:
    def make(wanted: Any) -> Test:
        if not _is_number(wanted) and not isinstance(wanted, str):
            raise ValueError(f"{word} compares numbers, texts or dates, not {shown(wanted)}")
        instant = instant_or_none(wanted)

        def test(value: Any) -> bool:
            if _is_number(value) and _is_number(wanted):
                return holds(value, wanted)
            if isinstance(value, str) and isinstance(wanted, str):
                theirs = instant_or_none(value) if instant is not None else None
                return holds(value, wanted) if theirs is None else holds(theirs, instant)
            raise RuleFailed(f"{word} cannot compare {shown(value)} with {shown(wanted)}")

        return test

    return make


def _text(word: str, holds: Callable[[str, str], bool]) -> Callable[[Any], Test]:
    def make(wanted: Any) -> Test:
        if not isinstance(wanted, str):
            raise ValueError(f"{word} takes a text, not {shown(wanted)}")

        def test(value: Any) -> bool:
            if not isinstance(value, str):
                raise RuleFailed(f"{word} looks into texts, not {shown(value)}")
            return holds(value, wanted)

        return test

    return make


def _contains(wanted: Any) -> Test:
    def test(value: Any) -> bool:
        if isinstance(value, list):
            return any(equal(entry, wanted) for entry in value)
        if isinstance(value, dict):
            return isinstance(wanted, str) and wanted in value
        if isinstance(value, str) and isinstance(wanted, str):
            return wanted in value
        raise RuleFailed(f"contains cannot look for {shown(wanted)} in {shown(value)}")

    return test


def _matches(wanted: Any) -> Test:
    from agent.core.rules.regex import matcher_of  # noqa: PLC0415  (brings CEL)

    if not isinstance(wanted, str):
        raise ValueError(f"matches takes a regular expression, not {shown(wanted)}")
    matches = matcher_of(wanted)

    def test(value: Any) -> bool:
        if not isinstance(value, str):
            raise RuleFailed(f"matches looks into texts, not {shown(value)}")
        return matches(value)

    return test


def _in(wanted: Any) -> Test:
    if not isinstance(wanted, list) or not 1 <= len(wanted) <= IN_ENTRIES_MAX:
        raise ValueError(f"in takes a list of 1 to {IN_ENTRIES_MAX} values, not {shown(wanted)}")
    return lambda value: any(equal(value, entry) for entry in wanted)


OPERATORS: Mapping[str, Callable[[Any], Test]] = {
    "eq": lambda wanted: lambda value: equal(value, wanted),
    "ne": lambda wanted: lambda value: not equal(value, wanted),
    "gt": _order("gt", lambda left, right: bool(left > right)),
    "gte": _order("gte", lambda left, right: bool(left >= right)),
    "lt": _order("lt", lambda left, right: bool(left < right)),
    "lte": _order("lte", lambda left, right: bool(left <= right)),
    "contains": _contains,
    "starts_with": _text("starts_with", str.startswith),
    "ends_with": _text("ends_with", str.endswith),
    "matches": _matches,
    "in": _in,
}
"""How each operator is made from the rule's value."""
