"""The labels of a node: what it reports, overridden by what was set here.

`agent_labels` holds the merged ones, for selectors; it is written only where they changed, in the
transaction of the report or the edit that changed them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import delete
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.nodes.selection import labels_of
from agent.core.occasion import Occasion
from agent.core.store.bulk import insert_all
from agent.core.store.schema import agent_labels
from agent.domain.labels import LABELS_PER_NODE_MAX, require_label_key, require_label_value

_decode = msgspec.json.Decoder().decode


def reported_labels(report: str | None) -> dict[str, str]:
    """Those of a stored report that are labels: a backend of somebody's own may tell anything."""
    told = _decode(report).get("labels") if report else None
    return acceptable(told) if isinstance(told, dict) else {}


def acceptable(told: Mapping[str, Any]) -> dict[str, str]:
    """Those that may be one, up to the bound."""
    found: dict[str, str] = {}
    for key, value in islice(told.items(), LABELS_PER_NODE_MAX):
        try:
            found[require_label_key(key)] = require_label_value(value)
        except ValueError:
            continue  # the report is kept as it came, and shows it
    return found


def own_labels(stored: str) -> dict[str, str]:
    """What was set here."""
    found: dict[str, str] = _decode(stored)
    return found


def relabel(
    connection: Connection, occasion: Occasion, agent_id: str, merged: Mapping[str, str]
) -> dict[str, str | None]:
    """Make these the node's labels; what changed (None: it has gone), with its event if any did."""
    before = labels_of(connection, [agent_id]).get(agent_id, {})
    changed: dict[str, str | None] = {
        key: merged.get(key)
        for key in sorted(before.keys() | merged.keys())
        if before.get(key) != merged.get(key)
    }
    if not changed:
        return changed
    gone = [key for key in changed if key in before]
    if gone:
        mine = (agent_labels.c.agent_id == agent_id, agent_labels.c.key.in_(gone))
        connection.execute(delete(agent_labels).where(*mine))
    rows = [
        {"agent_id": agent_id, "key": key, "value": value}
        for key, value in changed.items()
        if value is not None
    ]
    insert_all(connection, agent_labels, rows)
    journal.append(
        connection, occasion, agent_id, journal.LABELS_CHANGED, body={"changed": changed}
    )
    return changed
