"""A YAML file of rules (seed 003's form): `rules:`, each with a condition and an action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agent.core.rules.conditions import Condition, Reader
from agent.core.rules.results import (
    NEEDED,
    PARAMETERS,
    READERS,
    unknown_result,
    verdict_of,
    word_of,
)
from agent.core.rules.rule import (
    DESCRIPTION_CHARS_MAX,
    NAME_CHARS_MAX,
    PRIORITY_DEFAULT,
    PRIORITY_MAX,
    PRIORITY_MIN,
    Finding,
    Rule,
    Scene,
)
from agent.core.rules.verdict import Result, Verdict
from agent.core.rules.yaml_marks import Marked, Place, read_yaml
from agent.domain.errors import Fault, shown
from agent.wire import fields as f
from agent.wire.fields import nearest


def _name(value: Any) -> str:
    text: str = f.text(NAME_CHARS_MAX)(value)
    if not text.strip() or not text.isprintable():
        raise ValueError(f"{shown(text)} is no name; write words that can be shown")
    return text


MEMBERS: Mapping[str, Callable[[Any], Any]] = {
    "name": _name,
    "priority": f.integer(PRIORITY_MIN, PRIORITY_MAX),
    "description": f.text(DESCRIPTION_CHARS_MAX),
    "enabled": f.boolean,
}
_RULE = (*MEMBERS, "condition", "action")


def read_yaml_rules(text: str, file: str) -> tuple[list[Rule], list[Fault]]:
    """The rules of one file and everything that is wrong with it, by line."""
    document = read_yaml(text)
    misread = list(document.faults)
    lines = {line for line, _ in misread}
    rules = _rules(document, file)
    # What stands on such a line is not what was meant, so nothing else is said of it.
    others = [one for one in document.faults[len(misread) :] if one[0] not in lines]
    faults = [Fault(f"{file}:{line}", message) for line, message in sorted(misread + others)]
    return rules, faults


def _rules(document: Marked, file: str) -> list[Rule]:
    value = document.value
    if value is None:
        return []  # an empty file has no rules
    if not isinstance(value, dict) or "rules" not in value:
        document.faults.append((1, "must be a mapping with rules:, a list"))
        return []
    _unknown(value, ("rules",), (), document)
    listed = value["rules"]
    if listed is None:
        return []
    if not isinstance(listed, list):
        document.faults.append((document.line_of(("rules",)), "rules: must be a list"))
        return []
    return [_rule(raw, ("rules", at), document, file) for at, raw in enumerate(listed)]


def _unknown(
    given: Mapping[str, Any], known: tuple[str, ...], place: Place, document: Marked
) -> None:
    for key in given:
        if key not in known:
            hint = nearest(key, known) or f"; known are {', '.join(known)}"
            line = document.line_of((*place, key))
            document.faults.append((line, f"{shown(key)} is not known here{hint}"))


def _rule(raw: Any, place: Place, document: Marked, file: str) -> Rule:
    line = document.line_of(place)
    if not isinstance(raw, dict):
        document.faults.append((line, f"a rule is a mapping, not {shown(raw)}"))
        raw = {}
    else:
        _unknown(raw, _RULE, place, document)
        for needed in ("name", "condition", "action"):
            if raw.get(needed) is None:
                document.faults.append((line, f"{needed} is missing"))
    values = _read(raw, MEMBERS, place, document)
    verdict = _action(raw.get("action"), (*place, "action"), document)
    condition: Condition = lambda _: "is not one"  # noqa: E731  (where a fault was told)
    if raw.get("condition") is not None:
        condition = Reader(document).read(raw["condition"], (*place, "condition"))
    name, description = values.get("name", ""), values.get("description")
    return Rule(
        name=name,
        file=file,
        line=line,
        find=_finder(condition, verdict, name, description),
        priority=values.get("priority", PRIORITY_DEFAULT),
        description=description,
        is_enabled=values.get("enabled", True),
        says=word_of(verdict),
    )


def _read(
    raw: Mapping[str, Any],
    readers: Mapping[str, Callable[[Any], Any]],
    place: Place,
    document: Marked,
) -> dict[str, Any]:
    values = {}
    for name, read in readers.items():
        if raw.get(name) is None:
            continue
        try:
            values[name] = read(raw[name])
        except ValueError as error:
            document.faults.append((document.line_of((*place, name)), f"{name} {error}"))
    return values


def _action(raw: Any, place: Place, document: Marked) -> Verdict:
    if raw is None:
        return Verdict()
    line = document.line_of(place)
    if not isinstance(raw, dict):
        document.faults.append((line, f"action: is a mapping with a type, not {shown(raw)}"))
        return Verdict()
    word = raw.get("type")
    if word not in list(Result):
        told = "type is missing" if word is None else f"type {unknown_result(word)}"
        document.faults.append((document.line_of((*place, "type")), told))
        return Verdict()
    result = Result(word)
    _unknown(raw, ("type", *PARAMETERS[result]), place, document)
    values = _read(raw, {name: READERS[name] for name in PARAMETERS[result]}, place, document)
    needed = NEEDED.get(result)
    if needed is not None and raw.get(needed) is None:
        document.faults.append((line, f"{needed} is missing"))
    return verdict_of(result, values)


def _finder(
    condition: Condition, verdict: Verdict, name: str, description: str | None
) -> Callable[[Scene], Finding]:
    decided = _named(verdict, name, description)

    def find(scene: Scene) -> Finding:
        why = condition(scene)
        return Finding(decided, "its condition holds") if why is None else Finding(None, why)

    return find


def _named(verdict: Verdict, name: str, description: str | None) -> Verdict:
    return replace(verdict, rule=name, reason=verdict.reason or description)
