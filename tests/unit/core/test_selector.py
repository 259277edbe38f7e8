"""Selectors: what people write, what it means, and what is said of what means nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.nodes.selector import (
    REQUIREMENTS_MAX,
    TEXT_CHARS_MAX,
    VALUES_MAX,
    Operator,
    Requirement,
    Selector,
    parse_selector,
)

KEY = st.text("abcXYZ019._/-", min_size=1, max_size=12)
VALUE = st.text(max_size=20).filter(str.isprintable)
VALUES = st.sets(VALUE, min_size=1, max_size=4).map(lambda some: tuple(sorted(some)))
LISTED = st.builds(Requirement, KEY, st.sampled_from([Operator.IN, Operator.NOT_IN]), VALUES)
BARE = st.builds(Requirement, KEY, st.sampled_from([Operator.EXISTS, Operator.ABSENT]))
SELECTORS = st.lists(LISTED | BARE, min_size=1, max_size=6).map(Selector.of)
LABELS = st.dictionaries(KEY, VALUE, max_size=5)


@given(SELECTORS)
def test_a_selector_survives_its_text(selector: Selector) -> None:
    assert parse_selector(str(selector)) == selector


@given(st.text(max_size=60) | st.text(alphabet='ab,!=() in"\\\x00', max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        selector = parse_selector(text)
    except ValueError:
        return
    assert parse_selector(str(selector)) == selector


@given(LABELS.filter(bool))
def test_labels_as_a_selector_mean_who_carries_them_all(labels: Mapping[str, str]) -> None:
    selector = Selector.from_labels(labels)
    assert selector.matches(labels)
    for key in labels:
        assert not selector.matches({k: v for k, v in labels.items() if k != key})


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("env=prod", "env=prod"),
        (" role = db , env = prod ", "env=prod,role=db"),
        ("env in (b, a,b)", "env in (a,b)"),
        ("env in(a)", "env=a"),
        ("env notin (a)", "env!=a"),
        ("env != a", "env!=a"),
        ("!env", "!env"),
        ("! env,node", "node,!env"),
        ('note="two words, \\"quoted\\" \\\\"', 'note="two words, \\"quoted\\" \\\\"'),
        ('env=""', 'env=""'),
        ('env="plain"', "env=plain"),
        ("in in (in)", "in=in"),
        ("a,a", "a"),
    ],
)
def test_one_meaning_has_one_text(text: str, canonical: str) -> None:
    selector = parse_selector(text)
    assert parse_selector(str(selector)) == selector == parse_selector(canonical)
    assert sorted(str(selector)) == sorted(canonical)


@pytest.mark.parametrize(
    ("text", "labels", "meant"),
    [
        ("env=prod", {"env": "prod"}, True),
        ("env=prod", {}, False),
        ("env!=prod", {}, True),
        ("env!=prod", {"env": "dev"}, True),
        ("env notin (prod,dev)", {"env": "dev"}, False),
        ("env", {"env": ""}, True),
        ("!env", {"env": ""}, False),
        ("!env", {}, True),
        ("env in (prod,dev),!old", {"env": "dev"}, True),
        ("env=prod,env=dev", {"env": "dev"}, False),
        ("node=n1", {"node": "n1"}, True),
    ],
)
def test_what_is_meant(text: str, labels: dict[str, str], meant: bool) -> None:
    assert parse_selector(text).matches(labels) is meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty; every node is meant by: node"),
        ("  ", "it is empty"),
        ("env=", 'at character 5 (the end): a value is missing; the empty one is written ""'),
        ("env==prod", "at character 5 ('=prod'): equality is written with one ="),
        ("=prod", "at character 1 ('=prod'): a label's key is missing"),
        ("env=prod role=db", "at character 10 ('role=db'): a comma between two requirements"),
        ("env=prod,", "at character 10 (the end): a label's key is missing"),
        ("env like prod", "at character 5 ('like prod'): after env comes one of"),
        ("env in prod", "in needs its values in parentheses, as in env in (a, b)"),
        ("env in (a", "a comma or the closing parenthesis is missing"),
        ("env in ()", "a value is missing"),
        ('env="a', "at character 5 ('\"a'): the quote that opens here is not closed"),
        ("énv=prod", "is not a label's key"),
        ("k" * 65, "is not a label's key"),
        ("env=a\x00", "cannot be printed"),
        ("env=" + "v" * 257, "at most 256 characters"),
        ("env > 3", "at character 5 ('> 3'): after env comes one of = != in notin or a comma"),
        ("a" * (TEXT_CHARS_MAX + 1), "at most 4096 are allowed"),
        (",".join(f"k{n}" for n in range(REQUIREMENTS_MAX + 1)), "at most 32 are allowed"),
        (f"k in ({','.join(map(str, range(VALUES_MAX + 1)))})", "at most 256 are allowed"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_selector(text)


def test_labels_that_no_node_can_carry_are_said() -> None:
    with pytest.raises(ValueError, match="so no node can carry it"):
        Selector.from_labels({"two words": "x"})
    with pytest.raises(ValueError, match="it is empty"):
        Selector.from_labels({})
