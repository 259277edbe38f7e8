"""JSON with one meaning per document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.strict_json import BadItem, NotJson, decode, decode_items, encode


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"x": {"a": 1, "b": 2, "a": 3}}', "'a' stands twice"),
        (b'{"a": 9223372036854775808}', "64 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "64 bits"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
        (b"[" * 33 + b"]" * 33, "nested deeper"),
        (b"[" * 100_000, "nested deeper"),
        (b"<html><body>502 Bad Gateway</body></html>", "HTML"),
        (b"", "empty"),
        (b"   ", "empty"),
        (b'{"a": 1', "line 1"),
        (b"{} {}", "Extra data"),
    ],
)
def test_what_is_refused_and_why(data: bytes, word: str) -> None:
    with pytest.raises(NotJson, match=word):
        decode(data)


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -(2**63), 2**63 - 1, 0.5, None, True]},
        "😀 \\ud800 as text, brackets [[[{{{ in strings",
        [[[[]]]],
        {"😀": "é"},
    ],
)
def test_what_is_taken(value: Any) -> None:
    assert decode(encode(value)) == value
    assert decode(json.dumps(value).encode()) == value


@given(st.binary(max_size=60))
def test_no_bytes_do_anything_but_decode_or_be_refused(data: bytes) -> None:
    try:
        value = decode(data)
    except NotJson:
        return
    assert decode(encode(value)) == value


def test_brackets_in_strings_do_not_count_as_depth() -> None:
    assert decode(json.dumps({"a": "[" * 1000 + '\\"' + "{" * 50}).encode())


@pytest.mark.parametrize(
    ("item", "word"),
    [
        ('{"id": "bad", "n": 18446744073709551616}', "64 bits"),
        ('{"id": "bad", "n": NaN}', "NaN"),
        ('{"id": "bad", "n": 1e999}', "too large"),
        ('{"id": "bad", "p": {"a": 1, "a": 2}}', "stands twice"),
        ('{"id": "bad", "t": "\\ud800"}', "surrogate"),
        ('{"id": "bad", "d": ' + "[" * 30 + "]" * 30 + "}", "nested deeper"),
    ],
)
def test_a_bad_item_is_refused_alone(item: str, word: str) -> None:
    text = f'{{"cursor": "c", "actions": [{{"id": "good"}}, {item}]}}'
    document = decode_items(text, "actions")
    good, bad = document["actions"]
    assert (document["cursor"], good) == ("c", {"id": "good"})
    assert isinstance(bad, BadItem)
    assert word in bad.why
    assert bad.readable["id"] == "bad"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"cursor": NaN, "actions": []}', "NaN"),
        ('{"cursor": "a", "cursor": "b", "actions": []}', "stands twice"),
        ('{"cursor": "a", "cursor": "b", "actions": [NaN]}', "NaN"),
        ('{"cursor": "c", "actions": NaN}', "NaN"),
        ('{"cursor": "c", "actions": [' + "[" * 300, "nested deeper"),
        ('{"cursor": "c", "actions": [{"n": NaN}]', "NaN"),
    ],
)
def test_what_is_wrong_with_the_document_itself_refuses_all(text: str, word: str) -> None:
    with pytest.raises(NotJson, match=word):
        decode_items(text, "actions")


def test_an_item_may_be_as_deep_as_the_document_allows() -> None:
    text = '{"actions": [' + "[" * 30 + "]" * 30 + ", NaN]}"
    deep, bad = decode_items(text, "actions")["actions"]
    assert not isinstance(deep, BadItem)
    assert bad == BadItem("NaN is not a JSON number", None)


@pytest.mark.timeout(5)
def test_a_great_object_with_a_repeated_key_is_refused_quickly() -> None:
    text = "{" + "".join(f'"k{number}":1,' for number in range(100_000)) + '"z":1,"z":2}'
    with pytest.raises(NotJson, match="'z' stands twice"):
        decode(text)
