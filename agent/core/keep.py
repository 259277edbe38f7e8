"""How much the core keeps. Pure, and imports nothing: settings are read first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

KEEP_DAYS_DEFAULT = 90.0
KEEP_EVENTS_DEFAULT = 5_000_000  # some gigabytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """The bounds by age and number."""

    days: float = KEEP_DAYS_DEFAULT
    events: int = KEEP_EVENTS_DEFAULT

    def before(self, now: datetime) -> datetime:
        """What is older may go."""
        return now - timedelta(days=self.days)
