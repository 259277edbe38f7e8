"""A `.cel` file of rules: expressions that decide, each under comments that may head it.

    // priority: 10
    // Delay reminders by 1 hour
    action.action_type == "send_reminder" ? schedule(3600) : allow()

`allow()` without an argument says nothing: the next rule is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.core.rules import expression as expressions
from agent.core.rules.cel_limits import RESULTS
from agent.core.rules.cel_program import Missing
from agent.core.rules.cel_text import BadText, Comment, Expression, cut
from agent.core.rules.expression import BadExpression, read_expression, verdict_of_value
from agent.core.rules.rule import DESCRIPTION_CHARS_MAX, PRIORITY_DEFAULT, Finding, Rule, Scene
from agent.core.rules.yaml_rules import MEMBERS
from agent.domain.errors import Fault
from agent.wire.fields import nearest

_HEADED = re.compile(r"([A-Za-z_]+)\s*:\s*(.*)")
_OF_A_FILE = ("priority", "enabled")
_WORDS: Mapping[str, Callable[[str], Any]] = {
    "name": lambda text: text,
    "description": lambda text: text,
    "priority": lambda text: int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text,
    "enabled": lambda text: {"true": True, "false": False}.get(text, text),
}
_SLIP_CUTOFF = 0.8  # `prioriti: 10` is a slip, `note: …` a remark


def read_cel_rules(text: str, file: str) -> tuple[list[Rule], list[Fault]]:
    """The rules of one file and everything that is wrong with it, by line."""
    try:
        found = cut(text)
    except BadText as error:
        return [], [Fault(f"{file}:{error.line}", str(error))]
    faults: list[tuple[int, str]] = []
    of_file, _ = _header(found.header, _OF_A_FILE, faults)
    faults += [
        (comment.line, "belongs to no expression; put it directly above one")
        for comment in found.stray
        if _headed(comment) is not None
    ]
    rules = []
    for number, one in enumerate(found.expressions, 1):
        rule = _rule(text, one, f"{file}#{number}", of_file, faults, file)
        if rule is not None:
            rules.append(rule)
    return rules, [Fault(f"{file}:{line}", message) for line, message in sorted(faults)]


def _headed(comment: Comment) -> tuple[str, str] | None:
    """`priority: 10` → the word and what follows; None of a mere remark."""
    match = _HEADED.fullmatch(comment.text)
    if match is None or (match[1] not in _WORDS and not _is_slip(match[1])):
        return None
    return match[1], match[2].strip()


def _is_slip(word: str) -> bool:
    return bool(nearest(word.lower(), _WORDS, _SLIP_CUTOFF))


def _header(
    comments: Iterable[Comment], known: Sequence[str], faults: list[tuple[int, str]]
) -> tuple[dict[str, Any], str | None]:
    """The members that comments set, and the remarks among them as one text."""
    values: dict[str, Any] = {}
    remarks = []
    for comment in comments:
        headed = _headed(comment)
        if headed is None:
            remarks.append(comment.text)
            continue
        word, text = headed
        if word not in known:
            hint = nearest(word.lower(), known) or f"; known are {', '.join(known)}"
            faults.append((comment.line, f"{word!r} is not known here{hint}"))
            continue
        if word in values:
            faults.append((comment.line, f"{word} stands twice"))
        try:
            values[word] = MEMBERS[word](_WORDS[word](text))
        except ValueError as error:
            faults.append((comment.line, f"{word} {error}"))
    return values, " ".join(remarks).strip()[:DESCRIPTION_CHARS_MAX] or None


def _rule(
    text: str,
    one: Expression,
    default_name: str,
    of_file: Mapping[str, Any],
    faults: list[tuple[int, str]],
    file: str,
) -> Rule | None:
    given, remarks = _header(one.comments, tuple(_WORDS), faults)
    values = {**of_file, **given}
    last = one.tokens[-1]
    source = text[one.tokens[0].start : last.start + len(last.text)]
    try:
        expression = read_expression(source, one.line, may_decide=True)
    except BadExpression as error:
        faults += error.faults
        return None
    name = values.get("name", default_name)
    description = values.get("description", remarks)
    results = dict.fromkeys(token.text for token in one.tokens if token.text in RESULTS)
    return Rule(
        name=name,
        file=file,
        line=one.line,
        find=_finder(expression, name, description),
        priority=values.get("priority", PRIORITY_DEFAULT),
        description=description,
        is_enabled=values.get("enabled", True),
        says=" | ".join(results),
    )


def _finder(
    expression: expressions.Expression, name: str, description: str | None
) -> Callable[[Scene], Finding]:
    def find(scene: Scene) -> Finding:
        try:
            verdict = verdict_of_value(expression.value(scene))
        except Missing as error:
            return Finding(None, f"there is no {error}")
        if verdict is None:
            return Finding(None, "it comes to allow()")
        named = replace(verdict, rule=name, reason=verdict.reason or description)
        return Finding(named, "it decides so")

    return find
