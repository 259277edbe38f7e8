"""JSON as this project accepts it: one meaning per document, bounded, storable (DESIGN §4).

Refused beyond the grammar: bytes that are not UTF-8, duplicate keys, NaN and Infinity, integers
outside 64 bits, lone surrogates, nesting deeper than 32. `json.loads` lets all of these pass, and
SQLite would store NaN as NULL or fail at bind time. `decode_items` refuses an item of a list alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from agent.domain.errors import AgentError, shown

DEPTH_MAX = 32
_DEPTH_PARSED_MAX = 256  # of an item that is refused for its depth; the parser recurses
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1
_INTEGER_DIGITS_MAX = 20  # longer ones are outside 64 bits; spares the quadratic conversion
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


class NotJson(AgentError):
    """The bytes are not a JSON document that can be accepted; the text says why and where."""


def decode(data: bytes | str) -> Any:
    """Bytes → plain Python values. Raises `NotJson` with the reason."""
    text = _text(data)
    if _depth_exceeds(text, DEPTH_MAX):
        raise NotJson(f"nested deeper than {DEPTH_MAX} levels")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except json.JSONDecodeError as error:
        raise NotJson(_explain(error, text)) from None
    _require_storable_strings(value, text)
    return value


@dataclass(frozen=True, slots=True)
class BadItem:
    """Stands for an item that `decode` would refuse: why, and as much of it as could be read."""

    why: str
    readable: Any


def decode_items(data: bytes | str, member: str) -> Any:
    """As `decode`, but what is wrong inside an item of the list `member` spoils that item alone.

    Raises `NotJson` where the document itself cannot be accepted.
    """
    try:
        return decode(data)
    except NotJson as refusal:
        document = _decode_marking(data, refusal)
        items = document.pop(member, None) if isinstance(document, dict) else None
        if not isinstance(items, list) or _fault_of(document, DEPTH_MAX) is not None:
            raise
    return {**document, member: [_judged(item) for item in items]}


def encode(value: Any) -> bytes:
    """Compact UTF-8 JSON of plain values, dataclasses and Structs."""
    return msgspec.json.encode(value)


def encode_text(value: Any) -> str:
    """`encode`, as text for a database column."""
    return msgspec.json.encode(value).decode()


def _text(data: bytes | str) -> str:
    if isinstance(data, str):
        return data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8: byte {data[error.start]:#04x} at offset {error.start}") from None


def _explain(error: json.JSONDecodeError, text: str) -> str:
    if text.lstrip()[:1] == "<":
        return "this is HTML or XML, not JSON; is a proxy or a login page in between?"
    if not text.strip():
        return "the body is empty; a JSON document was expected"
    return f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"


def _depth_exceeds(text: str, limit: int) -> bool:
    """Counted before parsing, because the parser recurses."""
    if text.count("[") + text.count("{") <= limit:
        return False
    depth = 0
    for bracket in re.finditer(r"[\[\]{}]", _STRINGS.sub('""', text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > limit:
            return True
    return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise NotJson(f"the key {shown(twice)} stands twice in one object")
    return value


def _constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not a JSON number")


def _integer(digits: str) -> int:
    if len(digits) <= _INTEGER_DIGITS_MAX and INTEGER_MIN <= int(digits) <= INTEGER_MAX:
        return int(digits)
    raise NotJson(f"the integer {digits[:24]} does not fit into 64 bits")


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise NotJson(f"the number {digits[:24]} is too large")
    return value


def _require_storable_strings(value: Any, text: str) -> None:
    """Half a surrogate pair can only come from an escape; most documents have none."""
    if "\\u" not in text:
        return
    for string in _strings(value):
        if not _is_storable(string):
            raise NotJson(f"the text {shown(string)} has half a surrogate pair")


def _is_storable(string: str) -> bool:
    try:
        string.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _strings(value: Any) -> Iterator[str]:
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            todo.extend(one)
            todo.extend(one.values())
        elif isinstance(one, list):
            todo.extend(one)


@dataclass(frozen=True, slots=True)
class _Bad:
    """What strict decoding refuses, in its place."""

    why: str


def _marking(read: Any) -> Any:
    """The hook, returning a `_Bad` where it would raise."""

    def marked(given: Any) -> Any:
        try:
            return read(given)
        except NotJson as error:
            return _Bad(str(error))

    return marked


def _decode_marking(data: bytes | str, refusal: NotJson) -> Any:
    """Raises `refusal` where not even the grammar is JSON's."""
    text = _text(data)
    if _depth_exceeds(text, _DEPTH_PARSED_MAX):
        raise refusal
    try:
        return json.loads(
            text,
            object_pairs_hook=_marking(_object),
            parse_constant=_marking(_constant),
            parse_int=_marking(_integer),
            parse_float=_marking(_float),
        )
    except json.JSONDecodeError:
        raise refusal from None


def _judged(item: Any) -> Any:
    why = _fault_of(item, DEPTH_MAX - 2)  # the document and the list are two levels
    return item if why is None else BadItem(why, None if isinstance(item, _Bad) else item)


def _fault_of(value: Any, depth_max: int) -> str | None:
    """Why a value from `_decode_marking` is refused, or None."""
    todo = [(value, 0)]
    while todo:
        one, depth = todo.pop()
        if isinstance(one, _Bad):
            return one.why
        if isinstance(one, str) and not _is_storable(one):
            return f"the text {shown(one)} has half a surrogate pair"
        if isinstance(one, dict | list):
            if depth == depth_max:
                return f"nested deeper than {DEPTH_MAX} levels"
            inside = [*one, *one.values()] if isinstance(one, dict) else one
            todo += [(part, depth + 1) for part in inside]
    return None
