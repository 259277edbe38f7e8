"""JSON with one meaning per document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.strict_json import NotJson, decode, encode


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
