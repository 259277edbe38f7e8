"""What an approval is bound to: one digest for one definition, whoever computes it.

SHA-256 over the canonical JSON of RFC 8785 (keys sorted by UTF-16 code units, no spaces, numbers as
JavaScript writes them), so that every language has a library for it. One deviation: whole numbers
beyond 2^53 are written exactly, since two of them must not share a digest. `revision`,
`should_be_executed`, `approval` and a schedule's pause are left out: they change without the
content changing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

from agent.domain.definition import Definition
from agent.wire.definition import encode_definition

LEFT_OUT = frozenset({"revision", "should_be_executed", "approval"})
LEFT_OUT_OF_SCHEDULE = frozenset({"paused", "paused_reason"})
_FIXED_DIGITS_MAX = 21  # ECMAScript, Number::toString: beyond, an exponent is written
_FIXED_ZEROS_MAX = 6


def digest_of(definition: Definition) -> str:
    """The digest of a definition as it is stored and sent: 64 hex digits."""
    return digest_of_document(encode_definition(definition))


def digest_of_document(document: Mapping[str, Any]) -> str:
    """The same of a document as it came: plain JSON values, nothing added or normalised."""
    content = {key: value for key, value in document.items() if key not in LEFT_OUT}
    schedule = content.get("schedule")
    if isinstance(schedule, Mapping):
        kept = {key: value for key, value in schedule.items() if key not in LEFT_OUT_OF_SCHEDULE}
        content["schedule"] = kept
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """Plain JSON values → canonical text. Raises ValueError for NaN and Infinity."""
    if isinstance(value, dict):
        members = sorted(value.items(), key=_by_utf16)
        return "{" + ",".join(f"{_text(k)}:{canonical_json(v)}" for k, v in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical_json(entry) for entry in value) + "]"
    if isinstance(value, float):
        return _number(value)
    return _text(value)


def _by_utf16(member: tuple[str, Any]) -> bytes:
    return member[0].encode("utf-16-be")


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """As JavaScript writes it; Python agrees on the digits, not on where the exponent begins."""
    if not isfinite(value):
        raise ValueError(f"{value} is not a JSON number")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    digits, point = _digits_of(abs(value))
    if len(digits) <= point <= _FIXED_DIGITS_MAX:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= _FIXED_DIGITS_MAX:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -_FIXED_ZEROS_MAX < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{point - 1:+d}"


def _digits_of(value: float) -> tuple[str, int]:
    """The shortest digits d₁d₂… and the place n of 0.d₁d₂… × 10ⁿ."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).rstrip("0")
    stripped = digits.lstrip("0")
    return stripped, point - (len(digits) - len(stripped))
