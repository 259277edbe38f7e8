"""One expression of CEL as rules use it: checked when it is loaded, evaluated within its bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent.core.rules.cel_limits import (
    EXPRESSION_CHARS_MAX,
    RESULTS,
    Cost,
    FaultAt,
    calls_of,
    examine,
    require_affordable,
)
from agent.core.rules.cel_program import (
    ARGUMENTS,
    CALL,
    CelFailed,
    calls_only,
    compile_text,
    run,
)
from agent.core.rules.cel_text import BadText, Token, tokens_of
from agent.core.rules.regex import WEIGHT_MAX, matcher_of, require_short, weight_of
from agent.core.rules.results import read_call
from agent.core.rules.rule import RuleFailed, Scene
from agent.core.rules.verdict import Verdict
from agent.domain.errors import shown


class BadExpression(Exception):
    """It cannot be loaded; `faults` are all of them, each with its line."""

    def __init__(self, faults: Sequence[FaultAt]) -> None:
        self.faults = list(faults)
        super().__init__("; ".join(message for _, message in self.faults))


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked one."""

    program: Any
    cost: Cost
    weight: int
    """Of its regular expressions together."""

    def value(self, scene: Scene) -> Any:
        """What it comes to. Raises `Missing`, `RuleFailed`."""
        require_affordable(self.cost, scene.shape)
        require_short(self.weight, scene.shape.text_bytes * self.cost.factor)
        try:
            return run(self.program, scene.context)
        except CelFailed as error:
            raise RuleFailed(str(error)) from None


def read_expression(source: str, first_line: int = 1, *, may_decide: bool) -> Expression:
    """Check and compile; `first_line` is where it stands in its file. Raises `BadExpression`."""
    if len(source) > EXPRESSION_CHARS_MAX:
        long = f"an expression of {len(source)} characters; at most {EXPRESSION_CHARS_MAX}"
        raise BadExpression([(first_line, long)])
    try:
        tokens = tokens_of(source)
    except BadText as error:
        raise BadExpression([(first_line + error.line - 1, str(error))]) from None
    if not tokens:
        raise BadExpression([(first_line, "there is no expression")])
    cost, faults = examine(tokens, may_decide=may_decide)
    weight = 0
    if not faults:
        weight, faults = _patterns(tokens)
        faults += _call_faults(source, tokens)
    if may_decide and not any(token.text in RESULTS for token in tokens):
        decides_nothing = "decides nothing; write: condition ? schedule(3600) : allow()"
        faults.append((tokens[0].line, decides_nothing))
    program = None
    if not faults:
        try:
            program = compile_text(source)
        except CelFailed as error:
            faults.append(_placed(str(error), tokens[0].line))
    if faults:
        raise BadExpression([(first_line + line - 1, message) for line, message in faults])
    return Expression(program, cost, weight)


def _placed(message: str, line: int) -> FaultAt:
    """The library's own place (`at LINE:COLUMN: …`) as the line of the fault."""
    place, _, rest = message.partition(": ")
    at, _, column = place.removeprefix("at ").partition(":")
    if place.startswith("at ") and at.isdigit():
        return int(at), f"{rest} (column {column})"
    return line, message


def _patterns(tokens: Sequence[Token]) -> tuple[int, list[FaultAt]]:
    """What its regular expressions weigh together, and what is wrong with them.

    They are literals, so that they are bounded and seen to be right here.
    """
    weight = 0
    faults: list[FaultAt] = []
    for at, token in enumerate(tokens[:-1]):
        if token.text != "matches" or tokens[at + 1].text != "(":
            continue
        pattern = tokens[at + 2] if at + 2 < len(tokens) else token
        if pattern.kind != "text" or tokens[at + 3 : at + 4] == [] or tokens[at + 3].text != ")":
            faults.append((token.line, 'matches() takes one literal, as matches("^prod-")'))
            continue
        try:
            text = run(compile_text(pattern.text), None)
            matcher_of(text)
            weight += weight_of(text)
        except (CelFailed, ValueError) as error:
            faults.append((pattern.line, f"matches(): {error}"))
    if weight > WEIGHT_MAX:
        heavy = f"matches(): together they weigh {weight}; at most {WEIGHT_MAX} in one expression"
        faults.append((tokens[0].line, heavy))
    return weight, faults


def _call_faults(source: str, tokens: Sequence[Token]) -> Iterator[FaultAt]:
    """Results with literal arguments are read now: `schedule(0)` is no rule."""
    for at, arguments in calls_of(tokens).items():
        if not all(one.is_literal or one.text in (",", "-") for one in arguments):
            continue
        last = arguments[-1] if arguments else tokens[at + 1]
        end = last.start + len(last.text)
        call = f"{source[tokens[at].start : end]})"
        try:
            verdict_of_value(run(compile_text(call), calls_only()))
        except (CelFailed, RuleFailed) as error:
            yield tokens[at].line, str(error)


def verdict_of_value(value: Any) -> Verdict | None:
    """What an expression that decides came to; None of `allow()`. Raises `RuleFailed`."""
    if not isinstance(value, dict) or not isinstance(value.get(CALL), str):
        raise RuleFailed(f"it gives {shown(value)}; write: condition ? schedule(3600) : allow()")
    if value[CALL] not in RESULTS or not isinstance(value.get(ARGUMENTS), list):
        raise RuleFailed(f"it gives {shown(value)}, which is no result of a rule")
    try:
        return read_call(value[CALL], value[ARGUMENTS])
    except ValueError as error:
        raise RuleFailed(str(error)) from None
