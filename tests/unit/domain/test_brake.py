"""What a brake holds, and what it does to a start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from agent.domain.action import Transition
from agent.domain.brake import Brake, find_brake
from agent.domain.starting import Slots, Wait, decide_start
from tests.unit.domain.builders import NOW, after, make_action


def make_brake(**fields: Any) -> Brake:
    values: dict[str, Any] = {
        "id": 1, "labels": {}, "reason": "why", "by": "ann", "created_at": NOW,
    } | fields  # fmt: skip
    return Brake(**values)


@pytest.mark.parametrize(
    ("fields", "kind", "labels", "held"),
    [
        ({"kind": "redeploy"}, "redeploy", {}, True),
        ({"kind": "redeploy"}, "collect", {}, False),
        ({"labels": {"tier": "db"}}, "x", {"tier": "db", "zone": "a"}, True),
        ({"labels": {"tier": "db"}}, "x", {"tier": "web"}, False),
        ({"labels": {"tier": "db", "zone": "a"}}, "x", {"tier": "db"}, False),
        ({"kind": "x", "labels": {"tier": "db"}}, "x", {"tier": "db"}, True),
        ({"kind": "x", "labels": {"tier": "db"}}, "y", {"tier": "db"}, False),
    ],
)
def test_what_it_holds(
    fields: Mapping[str, Any], kind: str, labels: Mapping[str, str], held: bool
) -> None:
    assert make_brake(**fields).holds(kind, labels) is held


def test_it_is_over_at_its_expiry_and_not_before() -> None:
    brake = make_brake(expires_at=after(60))
    assert not brake.has_expired(after(59.999))
    assert brake.has_expired(after(60))
    assert not make_brake().has_expired(after(10**9))


def test_the_oldest_that_holds_it_is_named() -> None:
    brakes = [make_brake(id=1, kind="y"), make_brake(id=2, kind="x"), make_brake(id=3, kind="x")]
    found = find_brake(brakes, "x", {})
    assert found is not None
    assert (found.id, found.what) == (2, "kind x")


def test_what_is_held_waits_but_still_ends_when_it_is_too_late() -> None:
    slots = Slots(parallel_max=1, brakes=[make_brake(kind="sleep")])
    assert decide_start(make_action(), NOW, slots) is Wait.BRAKED
    assert isinstance(decide_start(make_action(kind="other"), NOW, slots), Transition)
    late = decide_start(make_action(to_date=NOW), NOW, slots)
    assert isinstance(late, Transition)
    assert late.to == "WONT_START"
