"""Names of things: what an id and a kind may look like, and how new ids are made.

Randomness and time are passed in, so that a simulation can repeat itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from agent.domain.instants import to_us

ID_CHARS_MAX = 128
RECURRING_ID_CHARS_MAX = 96  # leaves room for @<nominal>.b<n> behind it
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
_KIND = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

RandomBits = Callable[[int], int]  # number of bits → an integer below 2**bits


def is_id(text: str) -> bool:
    """Whether the text may name an action or a node."""
    return _ID.fullmatch(text) is not None


def is_kind(text: str) -> bool:
    """Whether the text may name a kind."""
    return _KIND.fullmatch(text) is not None


def new_id(now: datetime, random_bits: RandomBits) -> str:
    """A UUIDv7 (RFC 9562 §5.7): sorts by time of creation, 74 random bits."""
    milliseconds = (to_us(now) // 1000) & ((1 << 48) - 1)
    value = milliseconds << 80
    value |= 0x7 << 76
    value |= random_bits(12) << 64
    value |= 0b10 << 62
    value |= random_bits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_mark(random_bits: RandomBits) -> str:
    """Sixteen hex digits that tell one event from another of the same number (DESIGN §6)."""
    return f"{random_bits(64):016x}"
