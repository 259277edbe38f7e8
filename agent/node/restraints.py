"""What holds starts back on the whole node: the pause and the brakes, as the database has them.

Read in the turn's own transaction: once a pause or a brake is committed, nothing starts against it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agent.domain.action import Action
from agent.domain.brake import Brake
from agent.domain.lane import Lane
from agent.domain.starting import Slots
from agent.node.store import actions, brakes

LOOK_MAX = 256  # candidates read at once behind those that a brake holds
SHELVED_PER_TURN_MAX = 2_000  # beyond, the turn commits first: exits never wait for it


@dataclass(slots=True)
class Restraints:
    """What one turn found, and how much it put aside so far."""

    brakes: Sequence[Brake] = ()
    gone: Sequence[Brake] = ()
    """Brakes that are over and hold nothing any more."""
    more: bool = False
    shelved: int = 0

    @property
    def again(self) -> bool:
        """Whether another turn is needed at once to go on with it."""
        return self.more or self.shelved >= SHELVED_PER_TURN_MAX


def read_restraints(connection: sqlite3.Connection, slots: Slots, now: datetime) -> Restraints:
    """Take up what the database says into `slots`, and put back what ended brakes had held.

    While the clock is in doubt no brake expires.
    """
    paused = connection.execute("SELECT value FROM meta WHERE key = 'paused'").fetchone()
    slots.paused = slots.paused or (paused is not None and paused[0] == "1")
    believed = None if slots.clock_doubtful else now
    gone, more = brakes.let_go(connection, believed)
    slots.brakes = brakes.active(connection, believed)
    return Restraints(brakes=slots.brakes, gone=gone, more=more)


def candidates(
    connection: sqlite3.Connection, now: datetime, slots: Slots, lane: Lane, found: Restraints
) -> list[Action]:
    """What may start in this lane, as far as brakes and places go; by due time, then arrival.

    What a brake holds is shelved as it is met, so that it is met once, and not at every turn.
    """
    free = look = slots.free(lane)
    while look and found.shelved < SHELVED_PER_TURN_MAX:
        due = actions.due(connection, now, lane=lane, busy_apps=slots.apps, limit=look)
        held = [(action.row, brake.id) for action in due if (brake := _brake_on(action, slots))]
        if not held:
            return due[:free]
        actions.shelve(connection, held)
        found.shelved += len(held)
        rows = {row for row, _ in held}
        loose = [action for action in due if action.row not in rows]
        if loose:
            return loose[:free]
        look = min(look * 4, LOOK_MAX)
    return []


def _brake_on(action: Action, slots: Slots) -> Brake | None:
    """Nothing holds what cannot even be read: it has to be parked."""
    return None if action.parked is not None else slots.brake_on(action.definition)
