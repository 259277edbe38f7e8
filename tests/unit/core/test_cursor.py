"""Where a presented cursor stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.nodes.cursor import Cursor, List, Place, Resume, Stream, parse_cursor, place_of

STREAM = Stream(epoch="e1", acked_seq=5, acked_mark="a5", head_seq=9, head_mark="a9")
HEX = st.text("0123456789abcdef", min_size=1, max_size=16)
RESUME = st.none() | st.builds(Resume, st.sampled_from(List), st.integers(0, 10**17))


@given(st.builds(Cursor, HEX, st.integers(0, 10**17), HEX, RESUME))
def test_a_cursor_survives_its_text(cursor: Cursor) -> None:
    assert parse_cursor(str(cursor)) == cursor


@given(st.text(max_size=80))
def test_no_text_breaks_the_parser(text: str) -> None:
    found = parse_cursor(text)
    assert found is None or parse_cursor(str(found)) == found


@pytest.mark.parametrize(
    ("text", "mark_at", "place"),
    [
        ("e1.5.a5", "a5", Place.KNOWN),
        ("e1.7.a7", "a7", Place.KNOWN),
        ("e1.9.a9", "a9", Place.KNOWN),
        ("e1.9.a9.a17", "a9", Place.INSIDE_FULL),
        ("e1.4.a4", None, Place.RESTART),
        ("e1.4.a4.q3", None, Place.RESTART),
        ("e2.7.a7", "a7", Place.RESTART),
        ("e1.7.b7", "a7", Place.FORK),
        ("e1.7.b7.a3", "a7", Place.FORK),
        ("e1.10.a1", None, Place.FORK),
    ],
)
def test_places(text: str, mark_at: str | None, place: Place) -> None:
    cursor = parse_cursor(text)
    assert cursor is not None
    assert place_of(cursor, STREAM, mark_at) is place
