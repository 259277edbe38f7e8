"""How long a webhook's receiver is waited for. Pure; imports nothing: settings are read first."""

from __future__ import annotations

from dataclasses import dataclass

ATTEMPTS_MAX = 10  # with the delays below: nearly three hours
RETRY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a message is tried, and how long to wait after its first failure."""

    attempts_max: int = ATTEMPTS_MAX
    retry_s: float = RETRY_S
