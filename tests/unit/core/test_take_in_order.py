"""Which events of a push are taken: the number is the place, the mark the identity."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.nodes.events import EventsRefused, read_batch, take_in_order
from agent.core.nodes.incoming import Incoming
from agent.wire.messages import EVENTS_PER_PUSH_MAX, EventsPush


def event(seq: int, mark: str | None = None, first: int | None = None) -> Incoming:
    values: dict[str, Any] = {} if first is None else {"first": first, "last": seq}
    kind = "transition" if first is None else "gap"
    return Incoming(
        seq=seq, mark=mark or f"m{seq}", type=kind, at=None, action_id=None, values=values, body=""
    )


@given(st.integers(0, 30), st.lists(st.integers(1, 10), max_size=12))
def test_any_resending_stores_each_event_once_and_in_order(total: int, sizes: list[int]) -> None:
    made = [event(seq) for seq in range(1, total + 1)]
    stored: list[Incoming] = []
    reached = 0
    for size in [*sizes, total]:
        start = max(0, reached - size // 2)  # a part of it was pushed before
        fresh, reached, refusal = take_in_order(
            reached, made[start : start + size], {one.mark for one in stored}
        )
        assert refusal is None
        stored += fresh
    assert [one.seq for one in stored] == [one.seq for one in made[: len(stored)]]


def test_a_hole_stops_it() -> None:
    fresh, reached, refusal = take_in_order(3, [event(4), event(6)], set())
    assert ([one.seq for one in fresh], reached) == ([4], 4)
    assert refusal is not None
    assert (refusal.code, refusal.expected, refusal.acked) == ("gap", 5, 4)


def test_another_mark_at_a_known_place_is_a_fork() -> None:
    with pytest.raises(EventsRefused) as caught:
        take_in_order(3, [event(3, "other")], {"m1", "m2"})
    assert caught.value.code == "forked"


def test_the_same_event_under_another_number_is_not_stored_twice() -> None:
    fresh, reached, _ = take_in_order(3, [event(4, "m2"), event(5)], {"m2"})
    assert ([one.mark for one in fresh], reached) == (["m5"], 5)


def test_one_mark_for_two_events_of_a_push_loses_none_of_them() -> None:
    with pytest.raises(EventsRefused) as caught:
        take_in_order(3, [event(4, "same"), event(5, "same")], set())
    assert caught.value.code == "bad_events"


def test_an_event_that_stands_twice_in_a_push_is_one() -> None:
    fresh, reached, refusal = take_in_order(3, [event(4), event(4), event(5)], set())
    assert ([one.seq for one in fresh], reached, refusal) == ([4, 5], 5, None)


@pytest.mark.parametrize(("first", "last"), [(4, 9), (1, 9), (4, 4)])
def test_a_gap_covers_what_is_expected(first: int, last: int) -> None:
    fresh, reached, refusal = take_in_order(3, [event(last, first=first), event(last + 1)], set())
    assert (len(fresh), reached, refusal) == (2, last + 1, None)


def test_a_gap_that_leaves_a_hole_is_refused() -> None:
    fresh, reached, refusal = take_in_order(3, [event(9, first=6)], set())
    assert (fresh, reached) == ([], 3)
    assert refusal is not None
    assert refusal.expected == 4


def test_a_gap_behind_is_a_fold_of_what_is_stored() -> None:
    assert take_in_order(9, [event(5, "fold", first=2)], set()) == ([], 9, None)


def test_too_many_at_once_are_refused() -> None:
    with pytest.raises(EventsRefused):
        read_batch(EventsPush(agent_epoch="e", events=[{}] * (EVENTS_PER_PUSH_MAX + 1)))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_no_document_breaks_the_reader(raw: Any) -> None:
    placed = {"seq": 1, "mark": "m", **(raw if isinstance(raw, dict) else {"type": raw})}
    placed |= {"seq": 1, "mark": "m"}
    batch = read_batch(EventsPush(agent_epoch="e", events=[placed, raw]))
    assert batch.events[0].seq == 1
    assert batch.unplaceable is not None or len(batch.events) == 2
