"""`overlap: cancel_running`: which running occurrences make way for one that waits.

What runs is stopped only once the new one could start in its place. While a pause, a brake, a
doubted clock or a runner that is away keeps it from that, what runs goes on.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from agent.domain.action import Action
from agent.domain.lifecycle import Reason
from agent.domain.starting import Slots
from agent.node.ledger import Ledger
from agent.node.store import actions
from agent.node.store.displaced import in_the_way


def displace(
    connection: sqlite3.Connection, ledger: Ledger, slots: Slots, now: datetime
) -> list[Action]:
    """Stop what is in the way of an occurrence that could start now; the cause is committed."""
    if slots.held is not None:
        return []
    stopped: dict[int, Action] = {}
    for running_row, waiting_row in in_the_way(connection, now):
        waiting = actions.by_row(connection, waiting_row)
        running = actions.by_row(connection, running_row)
        if waiting is None or running is None or slots.brake_on(waiting.definition) is not None:
            continue
        if running_row not in stopped:
            stopped[running_row] = ledger.ask_to_stop(connection, running, Reason.OVERLAP.value)
    return list(stopped.values())
