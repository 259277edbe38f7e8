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
    `paused_…` say since when (RFC 3339), who and why; `draining` that it is to become empty.
    `brake_no` is the newest brake's number, whether there still is one or not.
    `clock_mark` is the newest time that was believed (agent.domain.clock_doubt).
    `row_floor` and `seq_floor` keep numbers of pruned rows from being used again.
    `pruned_seq` is the newest event that was forgotten: only behind it history has no holes.
    `pulled_seq` is the newest event that a pulling backend has, `pulled_at` when it asked last.
    `state_owed`: how often the core is to have everything and has not had it yet.
    `version` opened the database last: another one looks again at what was parked.
    `zone` is what schedules without one went by last; whoever looks while no daemon runs needs it.
    `boot_id` is of the machine's boot in which the runner was last asked about everything.
    `backup_seq` is the newest event in the newest verified backup, `backup_file` its name.
    `lanes_digest` says for which lanes of all kinds the waiting rows have been set.
    `restored`: what is known of the latest restore (JSON, see agent.node.restored).
    `restraints_no` counts changes of pause and brakes, as `restraints.json` does; `pauses_owed`
    are pauses (JSON) of recurring actions that a restored database does not have yet.
    `requests_done` remembers the core's newest requests (ids), so that a repeat changes nothing.
    """

    agent_id: str = ""
    agent_epoch: str = ""
    generation: int = 0
    cursor: str = ""
    acked_seq: int = 0
    enrolled: str = ""
    paused: int = 0
    paused_at: str = ""
    paused_by: str = ""
    pause_reason: str = ""
    draining: int = 0
    brake_no: int = 0
    clock_mark: str = ""
    row_floor: int = 0
    seq_floor: int = 0
    pruned_seq: int = 0
    requests_done: str = ""
    state_owed: int = 0
    pulled_seq: int = 0
    pulled_at: str = ""
    version: str = ""
    zone: str = ""
    boot_id: str = ""
    backup_seq: int = 0
    backup_file: str = ""
    restored: str = ""
    lanes_digest: str = ""
    restraints_no: int = 0
    pauses_owed: str = ""


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


def pause_view(meta: Meta) -> dict[str, Any]:
    """Whether anything starts on this node; and if not, since when, by whom and why."""
    return {
        "paused": bool(meta.paused),
        "pause_reason": meta.pause_reason or None,
        "paused_by": meta.paused_by or None,
        "paused_at": meta.paused_at or None,
        "draining": bool(meta.draining),
    }


def write_meta(connection: sqlite3.Connection, **values: str | int) -> None:
    """Set some values."""
    for key, value in values.items():
        if key not in _TYPES:
            raise KeyError(key)
        connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, str(value)),
        )
