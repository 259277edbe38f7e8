"""The few single values that the node keeps: who it is, how far sync got, whether it is paused.

Read and written inside the caller's transaction. Keys are the fields of `Meta`; nothing else.
"""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """All values with their defaults of a new database.

    `generation` rises with each start of `agentd`. `cursor` is the core's, applied and durable.
    `acked_seq` is the newest event that the core has; `enrolled` says whether there is a core.
    `row_floor` and `seq_floor` keep numbers of pruned rows from being used again.
    `pruned_seq` is the newest event that was forgotten: only behind it history has no holes.
    `state_owed`: how often the core is to have everything and has not had it yet.
    `requests_done` remembers the core's newest requests (ids), so that a repeat changes nothing.
    """

    agent_id: str = ""
    agent_epoch: str = ""
    generation: int = 0
    cursor: str = ""
    acked_seq: int = 0
    enrolled: str = ""
    paused: int = 0
    row_floor: int = 0
    seq_floor: int = 0
    pruned_seq: int = 0
    requests_done: str = ""
    state_owed: int = 0


_TYPES: dict[str, type[str | int]] = {
    name: type(default) for name, default in asdict(Meta()).items()
}


def read_meta(connection: sqlite3.Connection) -> Meta:
    """All values at once."""
    found = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    values: dict[str, Any] = {
        key: _TYPES[key](value) for key, value in found.items() if key in _TYPES
    }
    return Meta(**values)


def write_meta(connection: sqlite3.Connection, **values: str | int) -> None:
    """Set some values."""
    for key, value in values.items():
        if key not in _TYPES:
            raise KeyError(key)
        connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, str(value)),
        )
