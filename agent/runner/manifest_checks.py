"""Checks of one value of a manifest, pure: what is wrong with it, or None. And the nearest key."""

from __future__ import annotations

import math
import re
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Check = Callable[[Any], str | None]

_SIZE = re.compile(r"([0-9]{1,15}) ?([KMGT]?)(?:i?B)?\Z")
_UNIT_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def nearest(key: str, known: Iterable[str]) -> str:
    """A hint at what was probably meant."""
    names = sorted(known)
    best = min(names, key=lambda name: _distance(key, name))
    if _distance(key, best) <= max(2, len(best) // 3):
        return f"; did you mean {best}?"
    return f"; known are {', '.join(names)}"


def _distance(first: str, second: str) -> int:
    """Levenshtein's (`difflib` would cost 0.2 MB resident for this one message)."""
    row = list(range(len(second) + 1))
    for above, left in enumerate(first[:64], start=1):
        diagonal, row[0] = row[0], above
        for index, top in enumerate(second, start=1):
            cost = diagonal + (left != top)
            diagonal, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, cost)
    return row[-1]


def parse_size(value: Any) -> int | None:
    """Bytes, of an integer or a text such as "512M" (powers of 1,024); None if it is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _SIZE.match(value) if isinstance(value, str) else None
    return int(found[1]) * _UNIT_BYTES[found[2]] if found else None


def size(low: int, high: int) -> Check:
    """A number of bytes, or a text such as "512M"."""

    def check(value: Any) -> str | None:
        found = parse_size(value)
        if found is not None and low <= found <= high:
            return None
        return f'is {value!r}; it must be bytes, or a text such as "512M", from {low} to {high}'

    return check


def number(low: float, high: float, *, above: bool = False) -> Check:
    """Finite, from (or above) `low` to `high`."""

    def check(value: Any) -> str | None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_within = is_number and math.isfinite(value) and low <= value <= high
        if is_within and not (above and value == low):
            return None
        limits = f"{'above' if above else 'from'} {low:g} to {high:g}"
        return f"is {value!r}; it must be a number {limits}"

    return check


def integer(low: int, high: int) -> Check:
    """From `low` to `high`; true and false are no integers."""

    def check(value: Any) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return None
        return f"is {value!r}; it must be an integer from {low} to {high}"

    return check


def choice(*allowed: str) -> Check:
    """One of these."""

    def check(value: Any) -> str | None:
        return None if value in allowed else f"is {value!r}; it must be {' or '.join(allowed)}"

    return check


def string(chars_max: int) -> Check:
    """A text of at most so many characters."""

    def check(value: Any) -> str | None:
        if isinstance(value, str) and len(value) <= chars_max:
            return None
        return f"must be a string of at most {chars_max} characters"

    return check


def boolean(value: Any) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else f"is {value!r}; it must be true or false"


def table(checks: Mapping[str, Check]) -> Check:
    """A table of these keys, each optional; all faults in one text."""

    def check(value: Any) -> str | None:
        if not isinstance(value, dict):
            return "must be a table"
        faults = []
        for key, part in value.items():
            if key not in checks:
                faults.append(f".{key} is unknown{nearest(key, checks)}")
            elif fault := checks[key](part):
                faults.append(f".{key} {fault}")
        return ", ".join(faults) or None

    return check
