"""A label selector: which nodes are meant, as people write it. Pure.

    selector    = requirement *( "," requirement )            all of them must hold
    requirement = key | "!" key | key "=" value | key "!=" value
                | key "in" "(" values ")" | key "notin" "(" values ")"

A value that is not plain stands in double quotes, where a backslash takes the next character as it
is. As elsewhere, `!=` and `notin` also hold for nodes without the label. Every node has the label
`node`, its id: `node` alone means all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.domain.errors import shown
from agent.domain.labels import NODE_LABEL, is_label_key, require_label_value

TEXT_CHARS_MAX = 4096
REQUIREMENTS_MAX = 32  # each is a look into an index
VALUES_MAX = 256  # of one list

_SPACE = re.compile(r"\s*")
_WORD = re.compile(r'[^\s,()="!\\]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Operator(StrEnum):
    """How a requirement looks at a label."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, order=True)
class Requirement:
    """One condition; `values` are sorted and distinct, empty for EXISTS and ABSENT."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels meets it."""
        value = labels.get(self.key)
        match self.operator:
            case Operator.IN:
                return value in self.values
            case Operator.NOT_IN:
                return value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.ABSENT:
                return value is None

    def __str__(self) -> str:
        if self.operator is Operator.EXISTS:
            return self.key
        if self.operator is Operator.ABSENT:
            return f"!{self.key}"
        told = [_written(value) for value in self.values]
        if len(told) == 1:
            return f"{self.key}{'=' if self.operator is Operator.IN else '!='}{told[0]}"
        return f"{self.key} {self.operator} ({','.join(told)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that must all hold, sorted: two that mean the same look the same."""

    requirements: tuple[Requirement, ...]

    @classmethod
    def of(cls, requirements: Iterable[Requirement]) -> Selector:
        """Raises `ValueError` for none, and for more than anybody needs."""
        distinct = tuple(sorted(set(requirements)))
        if not distinct:
            raise ValueError(f"it is empty; every node is meant by: {NODE_LABEL}")
        if len(distinct) > REQUIREMENTS_MAX:
            raise ValueError(
                f"it has {len(distinct)} requirements; at most {REQUIREMENTS_MAX} are allowed"
            )
        selector = cls(distinct)
        _require_short(str(selector))
        return selector

    @classmethod
    def from_labels(cls, labels: Mapping[str, str]) -> Selector:
        """Nodes that carry all of these. Raises `ValueError`."""
        for key, value in labels.items():
            if not is_label_key(key):
                raise ValueError(f"{_not_a_key(key)}, so no node can carry it")
            require_label_value(value)
        return cls.of(Requirement(key, Operator.IN, (value,)) for key, value in labels.items())

    @classmethod
    def of_node(cls, agent_id: str) -> Selector:
        """The one node with this id."""
        return cls.of([Requirement(NODE_LABEL, Operator.IN, (agent_id,))])

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels is meant; the label `node` must be among them."""
        return all(requirement.holds(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


def parse_selector(text: str) -> Selector:
    """Text → selector. Raises `ValueError`: what is wrong, and at which character."""
    _require_short(text)
    return Selector.of(_Reader(text).requirements())


def _require_short(text: str) -> None:
    if len(text) > TEXT_CHARS_MAX:
        raise ValueError(f"it has {len(text)} characters; at most {TEXT_CHARS_MAX} are allowed")


def _written(value: str) -> str:
    """The value so that it reads back as the same."""
    if _WORD.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _not_a_key(text: str) -> str:
    return f"{shown(text)} is not a label's key (1–64 of A–Z a–z 0–9 . _ / -)"


class _Reader:
    """Reads left to right; `_at` is where the next character is."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def requirements(self) -> list[Requirement]:
        """All of the text."""
        self._skip_space()
        if self._is_over():
            return []
        found = [self._requirement()]
        while not self._is_over():
            if not self._take(","):
                raise self._fault("a comma between two requirements is missing")
            found.append(self._requirement())
        return found

    def _requirement(self) -> Requirement:
        if self._take("!"):
            return Requirement(self._key(), Operator.ABSENT)
        key = self._key()
        if self._take("!="):
            return Requirement(key, Operator.NOT_IN, (self._value(),))
        if self._take("="):
            if self._text.startswith("=", self._at):
                raise self._fault("equality is written with one =")
            return Requirement(key, Operator.IN, (self._value(),))
        if self._is_over() or self._peek() == ",":
            return Requirement(key, Operator.EXISTS)
        return self._list_of(key)

    def _list_of(self, key: str) -> Requirement:
        start = self._at
        word = self._word()
        if word not in (Operator.IN.value, Operator.NOT_IN.value):
            raise self._fault(f"after {key} comes one of = != in notin or a comma", start)
        if not self._take("("):
            raise self._fault(f"{word} needs its values in parentheses, as in {key} {word} (a, b)")
        values = {self._value()}
        while not self._take(")"):
            if not self._take(","):
                raise self._fault("a comma or the closing parenthesis is missing")
            values.add(self._value())
        if len(values) > VALUES_MAX:
            raise self._fault(
                f"the list of {key} has {len(values)} values; at most {VALUES_MAX} are allowed",
                start,
            )
        return Requirement(key, Operator(word), tuple(sorted(values)))

    def _key(self) -> str:
        start = self._at
        word = self._word()
        if not word:
            raise self._fault("a label's key is missing")
        if not is_label_key(word):
            raise self._fault(_not_a_key(word), start)
        return word

    def _value(self) -> str:
        start = self._at
        quoted = _QUOTED.match(self._text, self._at)
        if quoted is not None:
            self._advance_to(quoted.end())
            value = _ESCAPED.sub(r"\1", quoted.group(1))
        elif self._peek() == '"':
            raise self._fault("the quote that opens here is not closed")
        else:
            value = self._word()
            if not value:
                raise self._fault('a value is missing; the empty one is written ""')
        try:
            return require_label_value(value)
        except ValueError as error:
            raise self._fault(str(error), start) from None

    def _word(self) -> str:
        found = _WORD.match(self._text, self._at)
        if found is None:
            return ""
        self._advance_to(found.end())
        return found.group()

    def _take(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._advance_to(self._at + len(sign))
        return True

    def _advance_to(self, place: int) -> None:
        self._at = place
        self._skip_space()

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _is_over(self) -> bool:
        return self._at >= len(self._text)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _fault(self, message: str, at: int | None = None) -> ValueError:
        place = self._at if at is None else at
        there = shown(self._text[place : place + 20]) if place < len(self._text) else "the end"
        return ValueError(f"at character {place + 1} ({there}): {message}")
