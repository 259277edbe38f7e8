"""How one field of a document is read: from a JSON value to a domain value, or a message.

Each reader raises `ValueError` with what is wrong and what to write instead; `read_fields`
collects all of them, so that a document's faults are reported together.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any, TypeVar

from agent.domain.errors import FAULTS_SHOWN_MAX, Fault, InvalidDocument, shown
from agent.domain.ids import is_id, is_kind
from agent.domain.instants import from_unix, parse_instant
from agent.wire import strict_json

Reader = Callable[[Any], Any]
E = TypeVar("E", bound=StrEnum)

NAME_CHARS_MAX = 64  # of an unknown member, in the fault that names it


@dataclass(frozen=True, slots=True)
class Field:
    """One field: how to read it, and whether it must be there."""

    read: Reader
    required: bool = False


def read_fields(
    document: Mapping[str, Any], fields: Mapping[str, Field], path: str = ""
) -> tuple[dict[str, Any], list[Fault]]:
    """The values of the known fields that are given and not null, and every fault."""
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, field in fields.items():
        raw = document.get(name)
        if raw is None:
            if field.required:
                faults.append(Fault(_place(path, name), "is missing"))
            continue
        try:
            values[name] = field.read(raw)
        except InvalidDocument as error:
            place = _place(path, name)
            faults.extend(Fault(f"{place}.{f.path}".rstrip("."), f.message) for f in error.faults)
        except ValueError as error:
            faults.append(Fault(_place(path, name), str(error)))
    return values, faults


def _place(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def read_closed(document: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The values of an object that may have these members only. Raises `InvalidDocument`."""
    if not isinstance(document, dict):
        raise InvalidDocument([Fault("", f"must be an object, not {shown(document)}")])
    values, faults = read_fields(document, fields)
    unknown = (key for key in document if key not in fields)
    faults += [
        Fault(name, f"is not known here{nearest(name, fields)}")
        for name in (key[:NAME_CHARS_MAX] for key in islice(unknown, FAULTS_SHOWN_MAX))
    ]
    if faults:
        raise InvalidDocument(faults)
    return values


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean 'x'?` where a known word is close, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]!r}?" if close else ""


def snake_case(word: str) -> str:
    """`fromDate` → `from_date`."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", word).lower()


def text(chars_max: int) -> Reader:
    """A string of bounded length."""

    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"must be text, not {shown(value)}")
        if len(value) > chars_max:
            raise ValueError(f"is {len(value)} characters long; at most {chars_max} are kept")
        if "\0" in value:
            raise ValueError(f"{shown(value)} has a NUL, which not every database can hold")
        return value

    return read


def action_id(value: Any) -> str:
    """An id as DESIGN §4 has it."""
    if isinstance(value, str) and is_id(value):
        return value
    raise ValueError(
        f"{shown(value)} is not an id: 1–128 of A–Z a–z 0–9 . _ : @ -, first a letter or digit"
    )


def kind(value: Any) -> str:
    """The name of a kind."""
    if isinstance(value, str) and is_kind(value):
        return value
    raise ValueError(
        f"{shown(value)} is not a kind: 1–64 of a–z 0–9 _ . -, first a letter or digit"
    )


def boolean(value: Any) -> bool:
    """A boolean; neither 0 nor "false"."""
    if isinstance(value, bool):
        return value
    raise ValueError(f"must be true or false, not {shown(value)}")


def integer(low: int, high: int) -> Reader:
    """A whole number within bounds."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {shown(value)}")
        if not low <= value <= high:
            raise ValueError(f"{value} is outside {low} to {high}")
        return value

    return read


def number(low: float, high: float) -> Reader:
    """A number within bounds, both included."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"must be a number, not {shown(value)}")
        if not low <= value <= high:
            raise ValueError(f"{value} is outside {low:.12g} to {high:.12g}")
        return float(value)

    return read


def choice(words: type[E]) -> Reader:
    """One of an enumeration's words."""

    def read(value: Any) -> E:
        try:
            return words(value)
        except ValueError:
            known = [word.value for word in words]
            hint = nearest(value, known) if isinstance(value, str) else ""
            raise ValueError(f"{shown(value)} is not one of {', '.join(known)}{hint}") from None

    return read


def instant(value: Any) -> datetime:
    """RFC 3339 with a zone."""
    if not isinstance(value, str):
        raise ValueError(f"must be RFC 3339 text such as 2026-01-15T12:00:00Z, not {shown(value)}")
    try:
        return parse_instant(value)
    except ValueError as error:
        raise ValueError(f"{shown(value)}: {error}") from None


def instant_or_unix(value: Any) -> datetime:
    """A date, or seconds since 1970 as seed 004 writes them."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return from_unix(value)
        except OverflowError:
            raise ValueError(f"{value} seconds since 1970 is not a date") from None
    return instant(value)


def json_object(bytes_max: int) -> Reader:
    """An object whose compact encoding is bounded."""

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"must be an object, not {shown(value)}")
        size = len(strict_json.encode(value))
        if size > bytes_max:
            raise ValueError(f"is {size} bytes; at most {bytes_max} are allowed")
        return value

    return read


def text_list(count_max: int, chars_max: int) -> Reader:
    """A list of short texts, without repeats."""
    one = text(chars_max)

    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise ValueError(f"must be a list, not {shown(value)}")
        if len(value) > count_max:
            raise ValueError(f"has {len(value)} entries; at most {count_max} are allowed")
        return tuple(dict.fromkeys(one(entry) for entry in value))

    return read


def text_map(count_max: int, chars_max: int) -> Reader:
    """An object of short texts."""
    one = text(chars_max)

    def read(value: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise ValueError(f"must be an object of texts, not {shown(value)}")
        if len(value) > count_max:
            raise ValueError(f"has {len(value)} entries; at most {count_max} are allowed")
        return {one(key): one(entry) for key, entry in value.items()}

    return read
