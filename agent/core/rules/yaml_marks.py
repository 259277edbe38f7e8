"""YAML as rule files are written in: plain values, each with its line; one meaning per document.

Refused beyond the grammar: the same key twice, aliases and anchors (they can blow up), tags,
several documents, deep nesting, and scalars that YAML 1.1 reads as something else than they look:
`no`, `on`, `010`, `1_000`, `12:30`, and as a text: `08`, `1e6`. Dates stay the texts that they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

DEPTH_MAX = 32
_PREFIX = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][+-]?[0-9]+)?")
_LIKE_A_NUMBER = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|0[oO][0-7]+)"
)
_BOOLEANS = {"true": True, "false": False}
Place = tuple[str | int, ...]


@dataclass(slots=True)
class Marked:
    """A document: its value, the line of each place in it, and what is wrong by line."""

    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)

    def line_of(self, place: Place) -> int:
        """The line of a place, or of the nearest thing around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


class _Loader(yaml.SafeLoader):
    """Composes nodes only, without aliases, to a bounded depth."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases are not possible here; write it out",
                problem_mark=event.start_mark,
            )
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {DEPTH_MAX} levels", problem_mark=event.start_mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_yaml(text: str) -> Marked:
    """The document with its lines. What cannot be read at all is a fault, too."""
    found = Marked()
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        found.faults.append(_grammar_fault(error))
        return found
    except yaml.YAMLError as error:  # a character that YAML does not have
        found.faults.append((_line_of(error, text), " ".join(str(error).split())))
        return found
    if node is not None:
        found.value = _value(node, (), found)
    return found


def _grammar_fault(error: yaml.MarkedYAMLError) -> tuple[int, str]:
    mark = error.problem_mark or error.context_mark
    told = ", ".join(part for part in (error.context, error.problem) if part)
    return (mark.line + 1 if mark else 1), told


def _line_of(error: yaml.YAMLError, text: str) -> int:
    return text.count("\n", 0, getattr(error, "position", 0)) + 1


def _value(node: yaml.Node, place: Place, found: Marked) -> Any:
    line = node.start_mark.line + 1
    found.lines.setdefault(place, line)
    kind = node.tag.removeprefix(_PREFIX)
    if isinstance(node, yaml.MappingNode) and kind == "map":
        return _mapping(node, place, found)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [_value(entry, (*place, at), found) for at, entry in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, kind, line, found)
    found.faults.append((line, f"the tag {node.tag!r} is not possible here"))
    return None


def _mapping(node: yaml.MappingNode, place: Place, found: Marked) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        # A key is a text, whatever YAML makes of it: `on:` is the member "on".
        if not isinstance(key_node, yaml.ScalarNode):
            found.faults.append((line, "a key must be a text"))
            continue
        key = str(key_node.value)
        if key in values:
            found.faults.append((line, f"the key {key[:64]!r} stands twice in one mapping"))
        found.lines[(*place, key)] = line
        values[key] = _value(value_node, (*place, key), found)
    return values


def _scalar(node: yaml.ScalarNode, kind: str, line: int, found: Marked) -> Any:
    text: str = node.value
    if kind == "str" and node.style is None and _LIKE_A_NUMBER.fullmatch(text):
        kind = "int"  # and no plain one, or YAML would have said so
    if kind in ("str", "timestamp"):
        return text
    if kind == "null":
        return None
    if kind == "bool" and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if kind == "int" and _INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        return int(text)
    if kind == "float" and _FLOAT.fullmatch(text) and abs(float(text)) != float("inf"):
        return float(text)
    if kind in ("bool", "int", "float"):
        meant = "true or false" if kind == "bool" else "a plain number"
        found.faults.append((line, f"{text[:64]} is ambiguous in YAML; quote it, or write {meant}"))
    else:
        found.faults.append((line, f"the tag {node.tag!r} is not possible here"))
    return None
