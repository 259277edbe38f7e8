"""What to say of a past that went with a database: for answers, and for who looks for something.

Imports little, because `agentctl` reads it too while the daemon is down.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from agent.node.store.meta import read_meta
from agent.node.store.parking import read_object


def restored_from(told: Mapping[str, Any]) -> str:
    """Which past the database has: of a copy, or none."""
    if told.get("made_at"):
        return f"restored from the copy of {told['made_at']}; what came later is lost"
    return "begun empty; what was there before is lost"


def loss_hint(connection: sqlite3.Connection) -> str:
    """To be appended where something is not found: it may have been lost; empty where not."""
    told = read_object(read_meta(connection).restored)
    if not isinstance(told, dict):
        return ""
    return f"; on {told['at']} this node's database was {restored_from(told)}"
