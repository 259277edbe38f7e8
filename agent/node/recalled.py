"""A recurring action that comes back after a restore, and what of it is known all the same.

The copy did not have it, so it is delivered as if it were new. But the runner's records told which
occurrences of it ran, so that `max_runs` holds; and `restraints.json` told whether it was paused.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import datetime

from agent.domain.definition import LOST, Owner
from agent.domain.errors import AgentError
from agent.domain.instants import parse_instant, to_us
from agent.domain.recurring import Place, Recurring, look_ahead
from agent.node.store.meta import read_meta, write_meta


def recall(
    connection: sqlite3.Connection, rule: Recurring, now: datetime, place: Place
) -> Recurring:
    """The rule with what ran of it counted, and its pause; unchanged where it really is new.

    Who creates one anew on the node begins a new count, as with one that is over.
    """
    told = read_meta(connection)
    if rule.definition.owner is not Owner.CORE:
        return rule
    if told.pauses_owed:
        rule = replace(rule, paused=_owed_pause(connection, told.pauses_owed, rule.id))
    ran = _adopt_occurrences(connection, rule.id) if told.restored else 0
    if not ran:
        return rule
    counted = replace(rule, state=replace(rule.state, run_count=rule.state.run_count + ran))
    return look_ahead(counted, now, place)


def _adopt_occurrences(connection: sqlite3.Connection, rule_id: str) -> int:
    """Rows that only the runner's records told of get their rule back; how many it planned."""
    rows = connection.execute(
        "SELECT row, id FROM actions WHERE id > ? || '@' AND id < ? || 'A'"  # A is behind @
        " AND recurring_id IS NULL AND instr(definition, ?)",
        (rule_id, rule_id, f'"{LOST}"'),
    ).fetchall()
    planned = 0
    for row in rows:
        nominal_at: int | None
        try:
            nominal_at = to_us(parse_instant(row["id"].removeprefix(f"{rule_id}@")))
        except (ValueError, AgentError):
            nominal_at = None  # a backfill or a run by hand: not counted
        planned += nominal_at is not None
        connection.execute(
            "UPDATE actions SET recurring_id = ?, nominal_at = ? WHERE row = ?",
            (rule_id, nominal_at, row["row"]),
        )
    return planned


def _owed_pause(connection: sqlite3.Connection, owed: str, rule_id: str) -> str | None:
    """Its pause was kept beside the lost database, and waits for it to be delivered again."""
    pauses: dict[str, str] = json.loads(owed)
    paused = pauses.pop(rule_id, None)
    if paused is not None:
        write_meta(connection, pauses_owed=json.dumps(pauses) if pauses else "")
    return paused
