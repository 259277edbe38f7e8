"""Conditions of YAML rules, made into functions once (docs/rules.md).

A function answers None where the condition holds, else the part that does not and why, as a person
reads it. Of a missing member every comparison is false, also `ne`; `not` turns that around.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agent.core.rules.cel_limits import VARIABLES
from agent.core.rules.cel_program import Missing
from agent.core.rules.expression import BadExpression, read_expression
from agent.core.rules.fields_known import fault_of_field
from agent.core.rules.operators import OPERATORS, Test
from agent.core.rules.rule import RuleFailed, Scene
from agent.core.rules.yaml_marks import Marked, Place
from agent.domain.errors import shown
from agent.wire.fields import nearest

Condition = Callable[[Scene], str | None]
NESTED_MAX = 12
PARTS_MAX = 100  # of one all or any
_FORMS = ("field", "all", "any", "not")
_STEP = re.compile(r"""\.([^.\[\]"']+)|\[(?:"([^"]*)"|'([^']*)'|([0-9]{1,6}))\]""")
_MISSING = object()


class Reader:
    """Reads the conditions of one document; what is wrong goes into its faults."""

    def __init__(self, document: Marked) -> None:
        self._document = document

    def read(self, raw: Any, place: Place, depth: int = 0) -> Condition:
        """One condition, whatever its form."""
        if depth > NESTED_MAX:
            return self._fault(place, f"nested deeper than {NESTED_MAX} levels")
        if isinstance(raw, str):
            return self._expression(raw, place)
        if not isinstance(raw, dict):
            told = "must be an expression of CEL, or a mapping with field, all, any or not"
            return self._fault(place, f"{told}, not {shown(raw)}")
        forms = [form for form in _FORMS if form in raw]
        if len(forms) != 1:
            return self._fault(place, self._form_fault(raw, forms))
        form = forms[0]
        if form == "field":
            return self._comparison(raw, place)
        for key in raw:
            if key != form:
                self._fault((*place, key), f"{shown(key)} does not stand beside {form}")
        if form == "not":
            return _inverted(self.read(raw["not"], (*place, "not"), depth + 1))
        return self._several(form, raw[form], (*place, form), depth + 1)

    def _fault(self, place: Place, message: str) -> Condition:
        self._document.faults.append((self._document.line_of(place), message))
        return lambda _: "is not one"

    def _form_fault(self, raw: dict[str, Any], forms: Sequence[str]) -> str:
        if forms:
            return f"{' and '.join(forms)} exclude each other in one mapping; nest them"
        word = next(iter(raw), "")
        hint = nearest(word, _FORMS)
        return f"a condition has field, all, any or not, and this has {shown(word)}{hint}"

    def _several(self, form: str, raw: Any, place: Place, depth: int) -> Condition:
        if not isinstance(raw, list) or not 1 <= len(raw) <= PARTS_MAX:
            return self._fault(
                place, f"{form} takes a list of 1 to {PARTS_MAX} conditions, not {shown(raw)}"
            )
        parts = [self.read(entry, (*place, at), depth) for at, entry in enumerate(raw)]
        return _all(parts) if form == "all" else _any(parts)

    def _comparison(self, raw: dict[str, Any], place: Place) -> Condition:
        path = raw["field"]
        tests: list[tuple[str, Test]] = []
        for word, wanted in raw.items():
            if word == "field":
                continue
            if word not in OPERATORS:
                hint = nearest(word, OPERATORS) or f"; there are {', '.join(OPERATORS)}"
                self._fault((*place, word), f"{shown(word)} is no operator{hint}")
                continue
            try:
                tests.append((f"{path} {word} {shown(wanted)}", OPERATORS[word](wanted)))
            except ValueError as error:
                self._fault((*place, word), f"{word}: {error}")
        try:
            steps = read_path(path)
        except ValueError as error:
            return self._fault((*place, "field"), str(error))
        if len(raw) == 1:
            self._fault(place, f"nothing is asked of the field; add one of {', '.join(OPERATORS)}")
        return _of_field(str(path), steps, tests)

    def _expression(self, source: str, place: Place) -> Condition:
        try:
            expression = read_expression(source, may_decide=False)
        except BadExpression as error:
            for line, message in error.faults:
                where = f"line {line} of the expression: " if "\n" in source.strip() else ""
                self._fault(place, f"{where}{message}")
            return lambda _: "is not one"

        def holds(scene: Scene) -> str | None:
            try:
                value = expression.value(scene)
            except Missing as error:
                return f"{shown(source)}: there is no {error}"
            if not isinstance(value, bool):
                raise RuleFailed(f"the condition gives {shown(value)}, not true or false")
            return None if value else f"{shown(source)} is false"

        return holds


def read_path(path: Any) -> tuple[str | int, ...]:
    """`action.metadata.priority`, `node.labels["example.com/zone"]`. Raises `ValueError`."""
    if not isinstance(path, str):
        raise ValueError(f"field must be a text such as action.kind, not {shown(path)}")
    root = re.match(r"\w*", path)
    assert root is not None, "it matches the empty text as well"
    steps: list[str | int] = [root.group()]
    at = root.end()
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise ValueError(f"{shown(path)} is no field; write as action.metadata.priority")
        name, quoted, also_quoted, index = match.groups()
        steps.append(int(index) if index is not None else name or quoted or also_quoted or "")
        at = match.end()
    if steps[0] not in VARIABLES:
        hint = nearest(str(steps[0]), VARIABLES) or "; fields begin with action, node or now"
        raise ValueError(f"there is no {shown(steps[0])}{hint}")
    if len(steps) > 1:
        fault = fault_of_field(str(steps[0]), str(steps[1]))
        if fault is not None:
            raise ValueError(fault)
    return tuple(steps)


def _at(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(str(step), _MISSING)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return _MISSING
    return value


def _of_field(
    path: str, steps: tuple[str | int, ...], tests: Sequence[tuple[str, Test]]
) -> Condition:
    def holds(scene: Scene) -> str | None:
        value = _at(scene.roots, steps)
        if value is _MISSING:
            return f"there is no {path}"
        for told, test in tests:
            try:
                if not test(value):
                    return f"{told} is false: it is {shown(value)}"
            except RuleFailed as error:
                raise RuleFailed(f"{path}: {error}") from None
        return None

    return holds


def _all(parts: Sequence[Condition]) -> Condition:
    def holds(scene: Scene) -> str | None:
        return next((why for why in _asked(parts, scene) if why is not None), None)

    return holds


def _any(parts: Sequence[Condition]) -> Condition:
    def holds(scene: Scene) -> str | None:
        whys = []
        for why in _asked(parts, scene):
            if why is None:
                return None
            whys.append(why)
        return "none of any: " + "; ".join(whys)

    return holds


def _asked(parts: Sequence[Condition], scene: Scene) -> Iterator[str | None]:
    return (part(scene) for part in parts)


def _inverted(part: Condition) -> Condition:
    return lambda scene: "not: what it excludes holds" if part(scene) is None else None
