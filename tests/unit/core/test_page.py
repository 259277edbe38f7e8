"""Collapsing and bounding one page of deliveries."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from agent.core.nodes.page import _AFTER, _AGENT, Page, _standing_actions, take_changes
from agent.core.store.inline import InlineStore


def definition(seq: int, ref: str, size: int = 0) -> Any:
    text = f'{{"id":"{ref}","pad":"{"x" * size}"}}'
    return SimpleNamespace(
        seq=seq, mark=f"m{seq}", what="definition", ref=ref, definition=text, request_id=None
    )


def request(seq: int) -> Any:
    return SimpleNamespace(
        seq=seq, mark=f"m{seq}", what="request", ref=f"r{seq}", definition=None,
        request_id=f"r{seq}", type="send_state", action_id=None, by=None, reason=None, args=None,
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


def test_a_full_answer_reads_open_actions_only() -> None:
    """Not the history of a node that ran a million: by the partial index, in its order."""

    def explained(connection: Connection) -> list[str]:
        query = _standing_actions().compile(
            dialect=connection.dialect, compile_kwargs={"render_postcompile": True}
        )
        given = {**query.params, _AGENT.key: "n", _AFTER.key: 5}
        values = tuple(given[name] for name in query.positiontup or ())
        found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values)
        return [row[3] for row in found]

    step, *of_refused_ones = asyncio.run(InlineStore.in_memory().read(explained))
    assert all("SCAN" not in one for one in of_refused_ones)
    assert "actions_open (agent_id=? AND owner=? AND row>?)" in step
