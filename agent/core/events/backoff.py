"""When a failed message is tried again. Pure.

Doubling from `base_s` to an hour, each with a random tenth to half taken off, so that many hooks
behind one outage do not come back together. Kept in the database, not in a coroutine: an attempt
survives the process, which is why `tenacity` has no place here.
"""

from __future__ import annotations

from agent.domain.ids import RandomBits

DELAY_S_MAX = 3600.0
_BITS = 20


def next_delay_s(
    attempts: int, base_s: float, random_bits: RandomBits, asked_s: float | None = None
) -> float:
    """Seconds to wait after so many failed attempts; never less than the receiver asked for."""
    full = min(DELAY_S_MAX, base_s * (1 << min(attempts - 1, 30)))
    share = 0.5 + 0.4 * random_bits(_BITS) / (1 << _BITS)
    return max(full * share, min(asked_s or 0.0, DELAY_S_MAX))
