"""Requests: what is let in, and that nothing else is."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runner.messages import REQUESTS, BadRequest, check_members, decode_line
from agent.runner.progress import parse_progress

START: dict[str, Any] = {
    "n": 1, "op": "start", "row": 1, "start_no": 1, "id": "a@2026-01-01T00:00:00Z.b1",
    "attempt": 1, "kind": "x.y", "payload": {"a": 1},
}  # fmt: skip


def test_defaults_are_filled_in() -> None:
    values = check_members("start", START)
    assert set(values) == set(REQUESTS["start"])
    assert (values["metadata"], values["dry_run"], values["stop_at"]) == ({}, False, None)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("row", 0), ("row", True), ("row", 1.0), ("row", 2**63), ("row", None), ("id", "a b"),
        ("id", "a/../b"), ("id", "x" * 129), ("id", "a\n"), ("kind", "../a"), ("kind", "A"),
        ("kind", "a\n"), ("payload", None), ("metadata", []), ("app_names", ["a", 1]),
        ("app_names", "a"), ("dry_run", 0), ("timeout_s", 0), ("timeout_s", "1"),
        ("grace_s", 1e6), ("stop_at", -1), ("from_date", 5), ("to_date", "x" * 2_000),
        ("environment", {}),
    ],
)  # fmt: skip
def test_a_wrong_member_is_named(member: str, value: object) -> None:
    with pytest.raises(BadRequest, match=member):
        check_members("start", {**START, member: value})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.sampled_from(sorted(REQUESTS)), st.data())
def test_anything_is_either_let_in_whole_or_refused(op: str, data: st.DataObject) -> None:
    message = {name: data.draw(JSON) for name in REQUESTS[op]}
    with contextlib.suppress(BadRequest):
        assert set(check_members(op, message)) == set(REQUESTS[op])


@given(st.binary())
def test_any_bytes_are_an_object_or_a_fault(line: bytes) -> None:
    with contextlib.suppress(BadRequest):
        assert isinstance(decode_line(line), dict)


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity"])
def test_numbers_that_json_has_not(number: str) -> None:
    line = f'{{"n": 1, "op": "start", "timeout_s": {number}}}'.encode()
    with pytest.raises(BadRequest):
        check_members("start", {**START, **decode_line(line)})


@given(JSON)
def test_progress_lines(value: object) -> None:
    found = parse_progress(json.dumps(value).encode())
    if found is not None:
        assert 0 <= found[0] <= 100


def test_progress_is_printable_and_short() -> None:
    found = parse_progress(json.dumps({"percent": 5, "message": "a\x1b[2J\n" + "x" * 999}).encode())
    assert found is not None
    assert found[1] is not None
    assert found[1].isprintable()
    assert len(found[1]) <= 160
