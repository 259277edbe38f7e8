"""How often this node may ask the core for something that can as well wait for company.

A token bucket: the first few go at once, so that nothing single is ever late; a node that goes on
and on sends fewer and larger messages, of which each costs both sides more than what is in it.
"""

from __future__ import annotations


class Pace:
    """At most `burst` at once, and then one each `every_s` seconds. Times are monotonic."""

    def __init__(self, burst: int, every_s: float) -> None:
        self._burst_s = (burst - 1) * every_s
        self._every_s = every_s
        self._next_s = float("-inf")
        """When the one after the last would go, had they all come evenly."""

    def wait_s(self, now_s: float) -> float:
        """How long until another one may go; 0 if it may now."""
        return max(0.0, self._next_s - self._burst_s - now_s)

    def spend(self, now_s: float) -> None:
        """One goes now."""
        self._next_s = max(self._next_s, now_s) + self._every_s
