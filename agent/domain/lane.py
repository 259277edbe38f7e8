"""The lanes of a node's queue (DESIGN §3, "Queue"): what may run beside what.

The numbers stand in the database; they are never given another meaning.
"""

from __future__ import annotations

from enum import IntEnum

HOLDS_MAX = 48
"""How many `hold` scripts run at once. They take no parallel place, and nobody waits for their end;
the bound keeps the sum of all lanes below the runner's own (four per parallel place and 64 more),
with places left over for runs whose leftovers are still being stopped."""


class Lane(IntEnum):
    """One exclusive action at a time; parallel ones up to `max_parallel`; holds beside both."""

    EXCLUSIVE = 0
    PARALLEL = 1
    HOLD = 2

    @property
    def word(self) -> str:
        """As people and JSON have it."""
        return self.name.lower()
