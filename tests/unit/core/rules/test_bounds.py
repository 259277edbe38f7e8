"""CEL is bounded: the worst expressions that are accepted end soon, the others are refused.

The figures are generous against docs/decisions/0019-cel.md: a test machine may be busy.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import pytest

from agent.core.rules.verdict import Result
from agent.domain.errors import InvalidDocument
from tests.unit.core.rules.conftest import Load, rule, scene

SECONDS_MAX = 0.5
BIG_LIST = list(range(9_000))
WIDE = {f"k{number}": number for number in range(4_000)}
LONG = "x" * 60_000
MIXED = "".join("ab"[number.bit_count() % 2] for number in range(60_000))

LOOPED = "action.payload.l.all(a, action.payload.l.all(b, a >= 0 || b >= 0))"
WORST = [
    (LOOPED, {"l": list(range(50))}),
    (LOOPED, {"l": BIG_LIST}),
    ("action.payload.l.all(a, " + " && ".join(["a >= 0"] * 60) + ")", {"l": BIG_LIST[:180]}),
    ("action.payload.l.map(a, action.payload.l.map(b, [a, b])) != []", {"l": list(range(60))}),
    ("action.payload.l.exists(a, a in action.payload.m)", {"l": BIG_LIST, "m": BIG_LIST}),
    ("action.payload.l.map(a, a) == []", {"l": ["x" * 10] * 4_500}),
    ("action.payload.l.map(a, a) == []", {"l": ["x" * 10] * 430}),
    ("action.payload.l.filter(a, a != 0).filter(a, a != 0) != []", {"l": list(range(300))}),
    (
        'action.payload.l.all(a, action.payload.s.contains("y") || true)',
        {"l": BIG_LIST[:1000], "s": "x" * 2_500},
    ),
    (" && ".join(["action.payload == action.payload"] * 40), WIDE),
    (" || ".join(['action.payload.s.contains("y")'] * 36), {"s": LONG}),
    (" || ".join(['action.payload.s.matches("(x+x+)+y")'] * 30), {"s": LONG}),
    (r'action.payload.s.matches("\\w{33}y")', {"s": LONG}),
    (r'action.payload.s.matches("(a|b|x){190}y")', {"s": LONG}),
    (r'action.payload.s.matches("[ab]*a[ab]{480}c")', {"s": MIXED}),
    (r'action.payload.s.matches("[ab]*a[ab]{70}c")', {"s": MIXED}),
    ("(" + " + ".join(["action.payload.s"] * 9) + ').contains("y")', {"s": LONG}),
    ("[action.payload.s].map(a, a).map(a, a).map(a, a).map(a, a) == []", {"s": LONG}),
    ("-" * 300 + "action.payload.n == 3", {"n": 3}),
    ("[" * 24 + "]" * 24 + " == []", {}),
    ("false ? true : " * 20 + "true", {}),
]


@pytest.mark.parametrize(("text", "payload"), WORST)
def test_the_worst_ends_soon(load: Load, text: str, payload: dict[str, Any]) -> None:
    text = text.replace("'", "''")
    book = load(a_yaml=rule(f"'{text}'"))
    began = time.perf_counter()
    with contextlib.suppress(InvalidDocument):  # where it would take too long
        book.judge(scene({"payload": payload}))
    assert time.perf_counter() - began < SECONDS_MAX


def test_what_walks_too_much_is_told_so(load: Load) -> None:
    book = load(a_yaml=rule(f"'{LOOPED}'"))
    assert book.judge(scene({"payload": {"l": [1, 2]}})).result is Result.SUPPRESS
    with pytest.raises(InvalidDocument, match=r"too many steps here.*lists of 9000 entries"):
        book.judge(scene({"payload": {"l": BIG_LIST}}))


@pytest.mark.parametrize(
    "condition",
    [
        "{field: action.payload.s, matches: '[ab]*a[ab]{480}c'}",
        """'action.payload.s.matches("[ab]*a[ab]{480}c")'""",
    ],
)
def test_a_heavy_pattern_is_for_short_texts(load: Load, condition: str) -> None:
    """Linear in the text, but by the weight of the pattern: 0.2 s on one payload."""
    book = load(a_yaml=rule(condition))
    assert book.judge(scene({"payload": {"s": "ab" * 500}})).result is Result.ALLOW
    with pytest.raises(InvalidDocument, match=r"weigh.* 965, too much for a text of 60000 bytes"):
        book.judge(scene({"payload": {"s": MIXED}}))


def test_a_panic_of_the_library_is_a_fault_like_any_other() -> None:
    from agent.core.rules.cel_program import CelFailed, compile_text

    with pytest.raises(CelFailed, match="the library failed on it"):
        compile_text("(" * 100_000 + "1" + ")" * 100_000)


def test_a_book_may_be_asked_by_several_threads(load: Load) -> None:
    book = load(
        a_cel="action.payload.n % 2 == 0 ? schedule(action.payload.n + 1) : allow()",
        b_yaml=rule("{field: action.payload.s, matches: '^s[0-9]+$'}"),
    )
    wrong: list[Any] = []

    def ask(first: int) -> None:
        for number in range(first, first + 200):
            verdict = book.judge(scene({"payload": {"n": number, "s": f"s{number}"}}))
            expected = number + 1 if number % 2 == 0 else None
            if verdict.delay_s != expected or verdict.rule is None:
                wrong.append((number, verdict))

    threads = [threading.Thread(target=ask, args=(start * 1000,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []


def test_its_command_line_stays_out_of_the_process(load: Load) -> None:
    import subprocess
    import sys

    told = (
        "import sys; sys.modules['rich'] = None\n"
        "from agent.core.rules.cel_program import compile_text\n"
        "compile_text('1 == 1')\n"
        "print([name for name in ('typer', 'prompt_toolkit', 'pygments') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, timeout=30, check=True
    )
    assert found.stdout.strip() == "[]"
