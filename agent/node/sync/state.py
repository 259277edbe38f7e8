"""What sync knows and shows: connected or not, since when, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(slots=True)
class SyncState:
    """Read by `status`; written by the sync loops only."""

    url: str | None = None
    enrolled: bool = False
    connected: bool = False
    last_pull_at: datetime | None = None
    last_push_at: datetime | None = None
    problem: str | None = None
    push_problem: str | None = None
    """Why what happened here is not taken by the core, while pulls may go well."""
    fenced: bool = False
    refused: bool = False
    """The core answered with a refusal; it is tried again, but slowly."""
    polling: bool = False
    """Long polls are cut on the way here, so the node asks every minute instead."""
    recheck: bool = True
    """The core was away, and may be one from a backup: ask what it still has of our events."""
