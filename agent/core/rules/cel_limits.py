"""What an expression may contain, so that its evaluation is bounded in time and size.

The library has no clock and cannot be interrupted, so the bounds stand before: on the text when it
is loaded (`examine`), and on text and data together when it is asked (`require_affordable`). The
figures are measured in docs/decisions/0019-cel.md: the worst accepted one takes some 30 ms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.core.rules.cel_text import Token
from agent.core.rules.fields_known import fault_of_field
from agent.core.rules.rule import RuleFailed, Shape
from agent.core.rules.verdict import Result
from agent.wire.fields import nearest

EXPRESSION_CHARS_MAX = 4096
TOKENS_MAX = 400
BRACKETS_MAX = 24  # open at once; the library's own parser stops at about a hundred
QUESTIONS_MAX = 32  # its parser recurses on `a ? b : c ? d : …`
LOOPS_MAX = 4
LOOPS_DEEP_MAX = 2
PLUS_MAX = 8  # each may double a text
STEPS_MAX = 50_000  # at 0.1 to 0.5 µs
BYTES_MAX = 40_000_000  # looked at by texts' functions, at 1 GB/s and more
PAIRS_A_STEP = 4  # `map` and `filter` copy what they have for each entry: 0.04 to 0.08 µs

_COPIES = frozenset({"filter", "map"})
LOOPS = frozenset({"all", "exists", "exists_one", "filter", "map"})
RESULTS = frozenset(result.value for result in Result)
FUNCTIONS = LOOPS | {
    "bytes", "contains", "double", "duration", "dyn", "endsWith", "getDate", "getDayOfMonth",
    "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours", "getMilliseconds", "getMinutes",
    "getMonth", "getSeconds", "has", "int", "matches", "size", "startsWith", "string", "timestamp",
    "type", "uint",
}  # fmt: skip
_WORDS = frozenset({"true", "false", "null", "in"})
_TYPES = frozenset(
    {"bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"}
)
VARIABLES = ("action", "node", "now")
_COMPARES_WHOLE = frozenset({"==", "!=", "in"})

FaultAt = tuple[int, str]
"""The line within the text, and what is wrong there."""


@dataclass(frozen=True, slots=True)
class Cost:
    """How often the parts of an expression are evaluated, by the size of what is looped over."""

    plain: tuple[int, ...]
    """Tokens outside of any loop, in one, in one within one …"""
    wholes: tuple[int, ...]
    """Of those the comparisons that may walk a whole object or list."""
    copying: tuple[int, ...]
    """How many `map` and `filter` there are; each takes time by the square of its list."""
    factor: int
    """How many times the longest list or text can be added up."""
    written: int
    """The most entries that a list written in the expression itself can have."""

    def steps(self, shape: Shape) -> int:
        """At most so many on data of this shape."""
        longest = max(shape.longest, self.written) * self.factor
        parts = zip(self.plain, self.wholes, self.copying, strict=True)
        return sum(
            (tokens + wholes * shape.entries + copying * longest**2 // PAIRS_A_STEP)
            * longest**depth
            for depth, (tokens, wholes, copying) in enumerate(parts)
        )


def require_affordable(cost: Cost, shape: Shape) -> None:
    """Raise `RuleFailed` where it would take too long on data of this shape."""
    steps = cost.steps(shape)
    if steps > STEPS_MAX or steps * shape.text_bytes * cost.factor > BYTES_MAX:
        raise RuleFailed(
            f"it would take too many steps here ({steps}, at most {STEPS_MAX}; or over texts of "
            f"{shape.text_bytes} bytes): the action has lists of {shape.longest} entries; make "
            "them shorter, or the rule simpler"
        )


def examine(tokens: Sequence[Token], *, may_decide: bool) -> tuple[Cost, list[FaultAt]]:
    """What it costs, and everything that is wrong with it. `may_decide`: results may be called."""
    faults: list[FaultAt] = []
    line = tokens[0].line if tokens else 1
    if len(tokens) > TOKENS_MAX:
        faults.append((line, f"has {len(tokens)} parts; at most {TOKENS_MAX}"))
    for sign, most in (("+", PLUS_MAX), ("?", QUESTIONS_MAX)):
        count = sum(token.text == sign for token in tokens)
        if count > most:
            faults.append((line, f"has {count} times {sign}; at most {most}"))
    depths = _loop_depths(tokens, faults)
    faults += _name_faults(tokens, depths, may_decide=may_decide)
    deepest = max(depths, default=0)
    plain, wholes, copying = ([0] * (deepest + 1) for _ in range(3))
    for at, (token, depth) in enumerate(zip(tokens, depths, strict=True)):
        plain[depth] += 1
        wholes[depth] += token.text in _COMPARES_WHOLE and not _beside_a_literal(tokens, at)
        copying[depth] += token.text in _COPIES
        if depth and token.text == "+":
            faults.append((token.line, "+ inside of all, exists, map … is not possible"))
    plus = sum(token.text == "+" for token in tokens)
    commas = sum(token.text == "," for token in tokens)
    return Cost(tuple(plain), tuple(wholes), tuple(copying), plus + 1, commas + 1), faults


def _beside_a_literal(tokens: Sequence[Token], at: int) -> bool:
    after = tokens[at + 1] if at + 1 < len(tokens) else None
    if tokens[at].text == "in":
        return after is not None and after.text == "["
    return tokens[at - 1].is_literal or (after is not None and after.is_literal)


def _loop_depths(tokens: Sequence[Token], faults: list[FaultAt]) -> list[int]:
    """Of each token, inside how many loops it stands. Their number and all brackets are bounded."""
    depths: list[int] = []
    open_loops: list[bool] = []
    loops = 0
    for at, token in enumerate(tokens):
        depths.append(sum(open_loops))
        if token.text in "([{" and token.kind == "sign":
            is_loop = token.text == "(" and at > 0 and tokens[at - 1].text in LOOPS
            loops += is_loop
            open_loops.append(is_loop)
            if len(open_loops) == BRACKETS_MAX + 1:
                faults.append((token.line, f"more than {BRACKETS_MAX} brackets are open at once"))
            if is_loop and sum(open_loops) > LOOPS_DEEP_MAX:
                deep = f"at most {LOOPS_DEEP_MAX} of all, exists, map … may stand in one another"
                faults.append((token.line, deep))
        elif token.text in ")]}" and token.kind == "sign" and open_loops:
            open_loops.pop()
    if loops > LOOPS_MAX:
        faults.append((tokens[0].line, f"has {loops} of all, exists, map …; at most {LOOPS_MAX}"))
    return depths


def _name_faults(
    tokens: Sequence[Token], depths: Sequence[int], *, may_decide: bool
) -> Iterator[FaultAt]:
    """Functions and variables that there are none of, and fields that are slips."""
    bound = _bound(tokens)
    for at, token in enumerate(tokens):
        if token.kind != "name":
            continue
        before = tokens[at - 1].text if at else ""
        after = tokens[at + 1].text if at + 1 < len(tokens) else ""
        if after == "(":
            fault = _function_fault(token.text, depths[at], may_decide=may_decide)
        elif before == "." and at > 1:
            root = tokens[at - 2].text if at < 3 or tokens[at - 3].text != "." else ""
            fault = fault_of_field(root, token.text)
        else:
            known = {*VARIABLES, *_WORDS, *_TYPES, *bound}
            fault = None if token.text in known else _unknown_variable(token.text, bound)
        if fault is not None:
            yield token.line, fault


def _bound(tokens: Sequence[Token]) -> frozenset[str]:
    return frozenset(
        tokens[at + 2].text
        for at in range(len(tokens) - 2)
        if tokens[at].text in LOOPS and tokens[at + 1].text == "("
    )


def _function_fault(name: str, depth: int, *, may_decide: bool) -> str | None:
    if name == "matches" and depth:
        return "matches() inside of all, exists, map … is not possible"
    if name in FUNCTIONS:
        return None
    if name not in RESULTS:
        known = [*FUNCTIONS, *(RESULTS if may_decide else ())]
        return f"there is no function {name[:64]!r}{nearest(name, known)}"
    if not may_decide:
        return f"{name}() has no place in a condition; what is to happen stands under action:"
    return f"{name}() inside of all, exists, map … is not possible" if depth else None


def _unknown_variable(name: str, bound: frozenset[str]) -> str:
    hint = nearest(name, [*VARIABLES, *bound])
    return f"there is no variable {name[:64]!r}{hint or '; there are action, node and now'}"


def calls_of(tokens: Sequence[Token]) -> Mapping[int, Sequence[Token]]:
    """Calls of results, by the place of their name: the tokens between their brackets."""
    found: dict[int, Sequence[Token]] = {}
    for at, token in enumerate(tokens[:-1]):
        if token.text in RESULTS and token.kind == "name" and tokens[at + 1].text == "(":
            depth, end = 1, at + 2
            while end < len(tokens) and depth:
                depth += (tokens[end].text in "([{") - (tokens[end].text in ")]}")
                end += 1
            found[at] = tokens[at + 2 : end - 1]
    return found
