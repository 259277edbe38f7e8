"""How large a JSON Schema is once every reference in it is followed: what checking by it may cost.

Twenty lines that refer to one another twice each are a million checks of one payload. Whoever wrote
the manifest of a kind must not be able to hold up its node with that, and a node not its core.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

UNFOLDED_MAX = 30_000  # places; a schema written by hand has some hundreds, seldom thousands
DEPTH_MAX = 200  # of places in one another, references followed: who checks goes as deep
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_ANCHORS = ("$anchor", "$dynamicAnchor")
_INDEX_DIGITS_MAX = 9


def schema_problem(schema: Mapping[str, Any]) -> str | None:
    """Why nobody should check anything by this schema, or None. It never takes long itself."""
    named = "id" if "draft-04" in str(schema.get("$schema")) else "$id"
    inner = (place for place in _places(schema) if place is not schema)
    if any(isinstance(place.get(named), str) for place in inner):
        return f"has an {named} inside; only the whole may have one"
    if _Unfolding(schema).size_of(schema) <= UNFOLDED_MAX:
        return None
    return (
        f"is more than {UNFOLDED_MAX} places large, or more than {DEPTH_MAX} deep, once its "
        "references are followed; refer less often to what refers on"
    )


class _Unfolding:
    """One schema; each place of it is measured once."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._anchors = {
            f"#{place[word]}": place
            for place in _places(schema)
            for word in _ANCHORS
            if isinstance(place.get(word), str)
        }
        self._sizes: dict[int, int] = {}

    def size_of(self, value: Any, depth: int = 1) -> int:
        """How many places there are in it and in all that it refers to; beyond the bound any."""
        if not isinstance(value, dict | list):
            return 0
        known = self._sizes.get(id(value))
        if known is not None:
            return known
        if depth > DEPTH_MAX:
            return UNFOLDED_MAX + 1
        self._sizes[id(value)] = 1  # who comes back here goes round in a circle, which ends
        size = 1
        for inner in [*_inside(value), *self._targets(value)]:
            size = min(size + self.size_of(inner, depth + 1), UNFOLDED_MAX + 1)
        self._sizes[id(value)] = size
        return size

    def _targets(self, value: Any) -> Iterator[Any]:
        if not isinstance(value, dict):
            return
        for word in _REFERENCES:
            text = value.get(word)
            if isinstance(text, str):
                yield self._target(text)

    def _target(self, text: str) -> Any:
        """What it refers to; None for what is not in here, where nothing is fetched."""
        pointer = "#" + text.partition("#")[2]
        if pointer in self._anchors:
            return self._anchors[pointer]
        place: Any = self._schema
        for part in unquote(pointer[1:]).split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(place, list):
                place = dict(enumerate(place)).get(int(name) if _is_index(name) else -1)
            else:
                place = place.get(name) if isinstance(place, dict) else None
        return place


def _is_index(name: str) -> bool:
    return name.isdecimal() and len(name) <= _INDEX_DIGITS_MAX


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value)


def _places(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object in it, without following references."""
    left = [schema]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield value
        if isinstance(value, dict | list):
            left += _inside(value)
