r"""Regular expressions in rules: matched in time linear in the text, and bounded in size.

The engine is the one inside the CEL library (Rust's `regex`: no look-around, no back-references;
an expression may match anywhere in the text unless `^` and `$` say otherwise). It compiles an
expression each time, and a counted repetition of `\w` is large: therefore the bound on the weight.
Where many states are alive at once it takes time by weight and text: therefore one on both.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from agent.core.rules.cel_program import CelFailed, compile_text, run
from agent.core.rules.rule import RuleFailed

PATTERN_CHARS_MAX = 256
WEIGHT_MAX = 1000
"""Measured: about 10 ms to compile (docs/decisions/0019-cel.md)."""
WORK_MAX = 10_000_000
"""Weight times bytes of text. Measured: 3.5 ns each at worst."""
_CLASS_WEIGHT = 30  # `\w` is a table of Unicode's letters, `a` one byte
_PART = re.compile(
    r"""
      (?P<class>\\[wWdDsSpP])
    | (?P<brackets>\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\\[])*\])
    | (?P<escape>\\.)
    | (?P<open>\((?:\?[^):]*:|\?P?<\w+>)?)
    | (?P<close>\))
    | (?P<count>\{(?P<low>\d+)(?:,(?P<high>\d*))?\})
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_LARGE_CLASS = re.compile(r"\\[wWdDsSpP]")
_WEIGHT_CAP = 10**9  # nested counts multiply


def matcher_of(pattern: str) -> Callable[[str], bool]:
    """Whether a text has a match. Raises `ValueError` for what is no bounded expression.

    What it returns raises `RuleFailed` for a text that is too long for this one.
    """
    weight = require_bounded(pattern)
    program = compile_text(f"text.matches({quoted(pattern)})")

    def matches(text: str) -> bool:
        require_short(weight, len(text.encode("utf-8", "surrogatepass")))
        return run(program, {"text": text}) is True

    try:
        matches("")
    except CelFailed as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return matches


def require_short(weight: int, text_bytes: int) -> None:
    """Raise `RuleFailed` where patterns of this weight take too long over such a text."""
    if weight * text_bytes > WORK_MAX:
        raise RuleFailed(
            f"its regular expressions weigh {weight}, too much for a text of {text_bytes} bytes; "
            "count less in them"
        )


def require_bounded(pattern: str) -> int:
    """The weight. Raises `ValueError` where it is too large."""
    if len(pattern) > PATTERN_CHARS_MAX:
        raise ValueError(
            f"a regular expression of {len(pattern)} characters; at most {PATTERN_CHARS_MAX}"
        )
    weight = weight_of(pattern)
    if weight > WEIGHT_MAX:
        raise ValueError(
            f"the counts in this regular expression repeat too much (weight {weight}, at most "
            f"{WEIGHT_MAX}; a class such as \\w weighs {_CLASS_WEIGHT})"
        )
    return weight


def weight_of(pattern: str) -> int:
    """How many states it has, about: counted repetitions multiply what they repeat."""
    groups = [0]
    last = 0  # of what a count would repeat
    for part in _PART.finditer(pattern):
        if part["open"] is not None:
            groups[-1] += last
            last = 0
            groups.append(0)
        elif part["close"] is not None:
            if len(groups) > 1:  # else it is no expression, as the engine will say
                last = groups.pop() + last
        elif part["count"] is not None:
            last = min(_WEIGHT_CAP, last * max(1, int(part["high"] or part["low"])))
        else:
            groups[-1] += last
            last = _weight_of_one(part)
    return min(_WEIGHT_CAP, sum(groups) + last)


def _weight_of_one(part: re.Match[str]) -> int:
    if part["brackets"] is not None:
        return _CLASS_WEIGHT if _LARGE_CLASS.search(part["brackets"]) else 2
    if part["other"] == "[":
        raise ValueError("a class in brackets has no end here, or holds another one; write \\[")
    return 1 if part["class"] is None else _CLASS_WEIGHT


def quoted(text: str) -> str:
    """As a literal of CEL."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else f"\\U{ord(char):08x}"
