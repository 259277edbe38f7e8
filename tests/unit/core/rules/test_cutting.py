"""Where an expression of a `.cel` file ends, and which comments are whose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.rules.cel_text import BadText, cut
from tests.unit.core.rules.conftest import Load


def expressions(text: str) -> list[str]:
    return [" ".join(token.text for token in one.tokens) for one in cut(text).expressions]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("// only a comment", []),
        ("a\nb", ["a", "b"]),
        ("a\n\n\nb\n", ["a", "b"]),
        ("a b", ["a b"]),  # one line is one expression, and a bad one
        ("a ?\n b :\n c\nd", ["a ? b : c", "d"]),
        ("a\n  ? b\n  : c\nd", ["a ? b : c", "d"]),
        ("a\n\n  && b\n\n  ? c : d", ["a && b ? c : d"]),
        ("f(\n\na,\n b\n)\ng()", ["f ( a , b )", "g ( )"]),
        ("a // why\n&& b // and\nc", ["a && b", "c"]),
        ("a\n// for b\nb", ["a", "b"]),
        ("a &&\n// inside\nb", ["a && b"]),
        ("a\n!b", ["a", "! b"]),
        ("a\n!= b", ["a != b"]),
        ("a\nin b", ["a in b"]),
        ("a\n\n(b)", ["a", "( b )"]),
        ("a\n// c\n(b)", ["a", "( b )"]),
        ("a\n- b", ["a - b"]),
        ("a\n\n- b", ["a", "- b"]),
        ("a\n.b", ["a . b"]),
        ('\'//\' == a\n"\\"//" == b', ["'//' == a", '"\\"//" == b']),
        ('"""a\n\nb""" == c\nd', ['"""a\n\nb""" == c', "d"]),
        ("r'\\' == a\nb", ["r'\\' == a", "b"]),
        ("1.5e3 + .5 - 0x1F + 7u", ["1.5e3 + .5 - 0x1F + 7u"]),
    ],
)
def test_the_end(text: str, expected: list[str]) -> None:
    assert expressions(text) == expected


@given(st.text(alphabet="ab\"'/\\\n ?:()[]{}!&|=.,-+1ré", max_size=40))
def test_any_text_is_cut_or_refused_without_loss(text: str) -> None:
    try:
        found = cut(text)
    except BadText as error:
        lines = range(1, text.count("\n") + 2)
        found = cut("" if error.line in lines else text)
    at = 0
    for token in (token for one in found.expressions for token in one.tokens):
        assert text[token.start : token.start + len(token.text)] == token.text
        assert token.start >= at
        assert token.line == text.count("\n", 0, token.start) + 1
        at = token.start + len(token.text)


def test_headers(load: Load) -> None:
    book = load(
        a_cel="""\
// priority: 50
// All about backups.

// name: first
// Why it is there,
// in two lines. See also: the manual
action.kind == "a" ? suppress() : allow()  // not a header
// priority: 7
// description: Because.
// enabled: false
action.kind == "b"
  ? suppress("x")
  : allow()
"""
    )
    first, second = sorted(book.rules, key=lambda one: one.line)
    assert (first.name, first.priority, first.is_enabled) == ("first", 50, True)
    assert first.description == "Why it is there, in two lines. See also: the manual"
    assert (second.name, second.priority, second.is_enabled) == ("a.cel#2", 7, False)
    assert (second.description, second.line) == ("Because.", 11)
