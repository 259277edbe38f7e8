"""What a decision may not fetch by itself: the time and randomness (STYLE, habit 3).

Made once per request from the clock and the random source that the wiring passes in, so that a
simulation repeats itself from its seed.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime

from agent.domain.ids import RandomBits, new_id, new_mark

SECRET_BITS = 256


@dataclass(frozen=True, slots=True)
class Occasion:
    """One moment of the core."""

    now: datetime
    random_bits: RandomBits

    def new_mark(self) -> str:
        """A random mark (DESIGN §6)."""
        return new_mark(self.random_bits)

    def new_id(self) -> str:
        """A UUIDv7."""
        return new_id(self.now, self.random_bits)

    def new_secret(self) -> str:
        """A token that nobody guesses: 256 bits, 43 characters, safe in a header and a shell."""
        raw = self.random_bits(SECRET_BITS).to_bytes(SECRET_BITS // 8, "big")
        return urlsafe_b64encode(raw).rstrip(b"=").decode()
