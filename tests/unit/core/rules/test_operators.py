"""The comparisons of YAML conditions, held against what Python says of the same values."""

from __future__ import annotations

import operator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.rules.operators import OPERATORS, equal
from agent.core.rules.rule import RuleFailed
from agent.domain.instants import format_instant

numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
ORDERS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def holds(word: str, value: Any, wanted: Any) -> bool:
    return OPERATORS[word](wanted)(value)


@given(values, values)
def test_equality_is_an_equivalence_by_type(left: Any, right: Any) -> None:
    assert equal(left, left)
    assert equal(left, right) == equal(right, left)
    assert holds("eq", left, right) != holds("ne", left, right)
    if type(left) is type(right) and left == right and not isinstance(left, dict | list):
        assert equal(left, right)


@pytest.mark.parametrize(
    ("left", "right"), [(True, 1), (0, False), ("1", 1), (None, False), ([1], [True]), ("", None)]
)
def test_types_are_told_apart(left: Any, right: Any) -> None:
    assert not equal(left, right)
    assert equal(1, 1.0)


@pytest.mark.parametrize("word", ORDERS)
@given(left=numbers, right=numbers)
def test_numbers_are_ordered(word: str, left: Any, right: Any) -> None:
    assert holds(word, left, right) == ORDERS[word](left, right)


@pytest.mark.parametrize("word", ORDERS)
@given(left=instants, right=instants, hours=st.integers(-12, 12))
def test_dates_are_ordered_as_instants(word: str, left: Any, right: Any, hours: int) -> None:
    elsewhere = right.astimezone(timezone(timedelta(hours=hours))).isoformat()
    assert holds(word, format_instant(left), elsewhere) == ORDERS[word](left, right)
    assert holds("eq", format_instant(right), elsewhere)


@pytest.mark.parametrize("word", ORDERS)
@given(left=st.text(max_size=6), right=st.text(max_size=6))
def test_texts_are_ordered(word: str, left: Any, right: Any) -> None:
    assert holds(word, left, right) == ORDERS[word](left, right)


@given(st.text(max_size=6), st.text(max_size=3))
def test_texts_are_searched(value: Any, part: str) -> None:
    assert holds("contains", value, part) == (part in value)
    assert holds("starts_with", value, part) == value.startswith(part)
    assert holds("ends_with", value, part) == value.endswith(part)


@given(st.lists(values, max_size=4), values)
def test_membership(entries: list[Any], value: Any) -> None:
    assert holds("contains", entries, value) == any(equal(entry, value) for entry in entries)
    if entries:
        assert holds("in", value, entries) == any(equal(entry, value) for entry in entries)


def test_a_mapping_contains_its_keys() -> None:
    assert holds("contains", {"a": 1}, "a")
    assert not holds("contains", {"a": 1}, 1)


@pytest.mark.parametrize(
    ("word", "value", "wanted"),
    [
        ("gt", "3", 2),
        ("lt", 3, "x"),
        ("gte", None, 1),
        ("lte", True, 1),
        ("starts_with", 3, "x"),
        ("ends_with", None, "x"),
        ("contains", 3, 3),
        ("contains", "3", 3),
        ("matches", 3, "x"),
        ("gt", [1], 1),
    ],
)
def test_what_cannot_be_compared_is_not_taken_for_a_no(word: str, value: Any, wanted: Any) -> None:
    with pytest.raises(RuleFailed):
        holds(word, value, wanted)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("^prod-", "prod-1", True),
        ("^prod-", "xprod-1", False),
        ("[0-9]{3}$", "a123", True),
        (r"\d+\.\d+", "v1.2", True),
        ("(a+)+$", "a" * 5000 + "b", False),
        ('quo"te', 'a quo"te', True),
        ("é", "café", True),
        ("line\nbreak", "line\nbreak", True),
    ],
)
def test_patterns(pattern: str, text: str, expected: bool) -> None:
    assert holds("matches", text, pattern) is expected


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("gt", None),
        ("gt", [1]),
        ("lt", True),
        ("in", "abc"),
        ("in", []),
        ("in", list(range(1001))),
        ("starts_with", 1),
        ("ends_with", None),
        ("matches", 1),
        ("matches", "["),
        ("matches", "(?=look)"),
        ("matches", r"(a)\1"),
        ("matches", "a" * 257),
        ("matches", r"\w{50}"),
        ("matches", r"[\w]{50}"),
        ("matches", "(x{50}){50}"),
        ("matches", r"[a[\w]]{50}"),
        ("matches", "x{99999999999}"),
    ],
)
def test_a_bad_value_of_the_rule_fails_at_load(word: str, wanted: Any) -> None:
    with pytest.raises(ValueError):
        OPERATORS[word](wanted)
