"""Collapsing and bounding one page of deliveries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.core.nodes.page import Page, take_changes


def definition(seq: int, ref: str, size: int = 0) -> Any:
    text = f'{{"id":"{ref}","pad":"{"x" * size}"}}'
    return SimpleNamespace(
        seq=seq, mark=f"m{seq}", what="definition", ref=ref, definition=text, request_id=None
    )


def request(seq: int) -> Any:
    return SimpleNamespace(
        seq=seq, mark=f"m{seq}", what="request", ref=f"r{seq}", definition=None,
        request_id=f"r{seq}", type="send_state", action_id=None, by=None, reason=None,
    )  # fmt: skip


def test_changes_of_one_action_are_sent_once_and_passed_all() -> None:
    page = Page()
    rows = [definition(1, "a"), definition(2, "b"), definition(3, "a"), request(4)]
    assert take_changes(page, rows, 0, "m0") == (4, "m4")
    assert [one["id"] for one in page.actions] == ["a", "b"]
    assert [one.id for one in page.requests] == ["r4"]


def test_a_page_ends_before_what_does_not_fit() -> None:
    page = Page(bytes_max=100)
    rows = [definition(1, "a", 40), definition(2, "b", 60), definition(3, "c")]
    assert take_changes(page, rows, 0, "m0") == (1, "m1")


def test_one_that_is_larger_than_a_page_is_sent_alone() -> None:
    page = Page(bytes_max=10)
    assert take_changes(page, [definition(1, "a", 400), definition(2, "b")], 0, "m0") == (1, "m1")


def test_a_delivery_whose_subject_is_gone_is_passed() -> None:
    page = Page()
    gone = definition(1, "a")
    gone.definition = None
    assert take_changes(page, [gone], 0, "m0") == (1, "m1")
    assert page.actions == []


@given(st.lists(st.sampled_from("abcdef"), max_size=40), st.integers(1, 6))
def test_pages_together_tell_every_change(refs: list[str], items_max: int) -> None:
    rows = [definition(at + 1, ref) for at, ref in enumerate(refs)]
    seq, mark, told = 0, "m0", []
    while seq < len(rows):
        page = Page(items_max=items_max)
        seq, mark = take_changes(page, rows[seq:], seq, mark)
        told += [one["id"] for one in page.actions]
        assert len(page.actions) <= items_max
    assert set(told) == set(refs)
    if refs:
        # Whatever changed last was told at or after its change: its page passed that number.
        assert (seq, mark) == (len(rows), f"m{len(rows)}")
