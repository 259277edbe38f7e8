"""Who makes way when an occurrence falls due and an earlier one has not ended."""

from __future__ import annotations

import pytest

from agent.domain.overlap import QUEUED_PER_RULE_MAX, Open, decide_overlap
from agent.domain.schedule.spec import Overlap

RUNS = Open(row=1, id="r@1", started=True, regular=True)
WAITS = Open(row=2, id="r@2", started=False, regular=True)
BY_HAND = Open(row=3, id="r@3.b1", started=False, regular=False)


@pytest.mark.parametrize("overlap", list(Overlap))
def test_with_nothing_earlier_it_waits_its_turn(overlap: Overlap) -> None:
    decision = decide_overlap(overlap, [], catch_up=False)
    assert (decision.why, decision.ends) == (None, ())


@pytest.mark.parametrize("earlier", [RUNS, WAITS])
def test_skip_names_what_is_in_the_way(earlier: Open) -> None:
    why = decide_overlap(Overlap.SKIP, [earlier], catch_up=False).why
    assert why is not None
    assert earlier.id in why


def test_what_waits_because_somebody_asked_for_the_past_is_in_nobodys_way() -> None:
    assert decide_overlap(Overlap.SKIP, [BY_HAND], catch_up=False).why is None
    assert decide_overlap(Overlap.CANCEL_RUNNING, [BY_HAND], catch_up=False).ends == ()


def test_cancel_running_ends_what_waits() -> None:
    decision = decide_overlap(Overlap.CANCEL_RUNNING, [RUNS, WAITS, BY_HAND], catch_up=False)
    assert (decision.why, decision.ends) == (None, (2,))


@pytest.mark.parametrize("overlap", list(Overlap))
def test_a_late_one_queues_behind_the_others(overlap: Overlap) -> None:
    decision = decide_overlap(overlap, [RUNS, WAITS], catch_up=True)
    assert (decision.why, decision.ends) == (None, ())


def test_what_waits_for_its_delay_is_in_nobodys_way() -> None:
    ahead = Open(row=4, id="r@4", started=False, regular=True, ahead=True)
    for overlap in Overlap:
        decision = decide_overlap(overlap, [ahead], catch_up=False)
        assert (decision.why, decision.ends) == (None, ())
        full = decide_overlap(overlap, [ahead] * QUEUED_PER_RULE_MAX, catch_up=False)
        assert full.why is not None, "but they are bounded"


@pytest.mark.parametrize("overlap", [Overlap.QUEUE, Overlap.ALLOW])
def test_what_falls_behind_for_ever_is_bounded(overlap: Overlap) -> None:
    many = [WAITS] * QUEUED_PER_RULE_MAX
    assert decide_overlap(overlap, many[:-1], catch_up=False).why is None
    assert f"{QUEUED_PER_RULE_MAX}" in (decide_overlap(overlap, many, catch_up=False).why or "")
