"""The first few go at once; who goes on goes evenly, and rest brings the first few back."""

from __future__ import annotations

import pytest

from agent.node.sync.pace import Pace

BURST, EVERY_S = 3, 0.5


def moments(asked: list[float]) -> list[float]:
    """When each of them goes, that is asked for at these moments, one after the other."""
    pace, went, now = Pace(BURST, EVERY_S), [], 0.0
    for at in asked:
        now = max(now, at)
        now += pace.wait_s(now)
        pace.spend(now)
        went.append(now)
    return went


@pytest.mark.parametrize(
    ("asked", "went"),
    [
        ([7.0, 7.0, 7.0], [7.0, 7.0, 7.0]),
        ([0.0] * 6, [0.0, 0.0, 0.0, 0.5, 1.0, 1.5]),
        ([0.0] * 4 + [0.6], [0.0, 0.0, 0.0, 0.5, 1.0]),
        ([0.0] * 4 + [9.0] * 4, [0.0, 0.0, 0.0, 0.5, 9.0, 9.0, 9.0, 9.5]),
        ([0.0, 0.5, 1.0, 1.5, 2.0, 2.5], [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
    ],
)
def test_when_each_goes(asked: list[float], went: list[float]) -> None:
    assert moments(asked) == pytest.approx(went)
