"""What due actions waited for, kept in memory, so that a late start or a missed one can tell.

An action starts in the turn that ends its wait, so the last thing that was let go and that held it
is what it had waited for. Nothing is written but the evidence of the transition itself.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from agent.domain.action import Action
from agent.domain.brake import Brake, find_brake
from agent.domain.instants import format_instant
from agent.domain.lane import HOLDS_MAX, Lane
from agent.domain.oneshot import latest_start
from agent.domain.starting import FULL, Slots, Wait, obstacle
from agent.domain.waited import DAEMON_DOWN, WAITED_FOR
from agent.node.store.meta import read_meta

LATE_MIN = timedelta(seconds=0.5)  # what is sooner is on time for anybody who asks why
RELEASES_KEPT = 256  # far more than end in one turn, and an action starts in the turn it is let go

Told = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Something that held actions back and does not any more; neither of place nor brake: all."""

    at: datetime
    wait: Wait
    told: Mapping[str, Any]
    lane: Lane | None = None
    locks: tuple[str, ...] = ()
    brake: Brake | None = None
    of_place: bool = False
    first: bool = False
    """The runner, which is always away when a life of `agentd` begins."""

    def about(self, action: Action) -> Told | None:
        """Its evidence, if this held that action back."""
        if self.brake is not None:
            definition = action.definition
            held = find_brake((self.brake,), definition.kind, definition.labels) is not None
            return self._as(self.wait) if held else None
        if not self.of_place or self.lane is action.lane:
            return self._as(self.wait)
        shared = sorted(set(self.locks).intersection(action.locks))
        return self._as(Wait.APP_BUSY) | {"lock": shared[0]} if shared else None

    def _as(self, wait: Wait) -> Told:
        return {WAITED_FOR: wait.value, **self.told, "until": format_instant(self.at)}


class Waits:
    """The memory of one life of `agentd`. Used by turns only, one after the other."""

    def __init__(self, began: datetime | None = None) -> None:
        self.began = began
        self._releases: deque[Release] = deque(maxlen=RELEASES_KEPT)
        self._held: Wait | None = None
        self._held_told: Mapping[str, Any] = {}
        self._looked = False
        self._held_from_start = False
        self._brakes: Sequence[Brake] = ()
        self._full: frozenset[Lane] = frozenset()

    def look(self, connection: sqlite3.Connection, slots: Slots, now: datetime) -> None:
        """As a turn begins: what holds the whole node, and which brakes are gone."""
        held = slots.held
        if held is not self._held:
            if self._held is not None:
                self._releases.append(
                    Release(
                        at=now, wait=self._held, told=self._held_told, first=self._held_from_start
                    )
                )
            self._held_from_start = not self._looked and held is Wait.RUNNER_AWAY
            self._held_told = _of_node(connection, held, now)
            self._held = held
        self._looked = True
        standing = {brake.id for brake in slots.brakes}
        for brake in self._brakes:
            if brake.id not in standing:
                gone = Release(at=now, wait=Wait.BRAKED, told=_of_brake(brake), brake=brake)
                self._releases.append(gone)
        self._brakes = slots.brakes

    def settled(self, action: Action, now: datetime) -> None:
        """A run is over: it frees its place, if none was free, and its locks."""
        full = action.lane is Lane.EXCLUSIVE or action.lane in self._full
        if full or action.locks:
            self._releases.append(
                Release(
                    at=now, wait=FULL[action.lane], told=_of_run(action), of_place=True,
                    lane=action.lane if full else None, locks=action.locks,
                )
            )  # fmt: skip

    def filled(self, slots: Slots) -> None:
        """As a turn ends: which lanes have no place left."""
        full = set()
        if slots.parallel_used >= slots.parallel_max:
            full.add(Lane.PARALLEL)
        if slots.holds_used >= HOLDS_MAX:
            full.add(Lane.HOLD)
        self._full = frozenset(full)

    def before_start(self, action: Action, now: datetime) -> Told:
        """What an action that starts now had waited for last. Empty if it is on time."""
        if action.due_at is None or now - action.due_at < LATE_MIN:
            return {}
        return self._last(action, action.due_at) or {}

    def before_end(
        self, action: Action, now: datetime, slots: Slots, running: Iterable[Action]
    ) -> Told:
        """What an action that may not start any more was waiting for."""
        due = action.due_at
        if due is None or now <= due:
            return {}
        limit = latest_start(action.definition, action.accepted_at)
        over_before = self.began is not None and limit is not None and limit < self.began
        wait = obstacle(action, slots)
        if over_before and wait is not Wait.PAUSED:
            return self._down()
        if wait is Wait.RUNNER_AWAY and self._held_from_start and self._was_down(due, now):
            return self._down()
        if wait is not None:
            return {WAITED_FOR: wait.value, **self._holding(action, wait, slots, running)}
        return self._last(action, due) or {}

    def _last(self, action: Action, due: datetime) -> Told | None:
        for release in reversed(self._releases):
            if release.at <= due:
                continue
            if release.first and self._was_down(due, release.at):
                continue
            told = release.about(action)
            if told is not None:
                return told
        return self._down() if self.began is not None and due < self.began else None

    def _was_down(self, due: datetime, until: datetime) -> bool:
        """Whether of a wait that ended with the runner's coming `agentd` was away the longer."""
        return self.began is not None and self.began - due >= until - self.began

    def _down(self) -> Told:
        until = {} if self.began is None else {"until": format_instant(self.began)}
        return {WAITED_FOR: DAEMON_DOWN, **until}

    def _holding(
        self, action: Action, wait: Wait, slots: Slots, running: Iterable[Action]
    ) -> Mapping[str, Any]:
        brake = slots.brake_on(action.definition)
        if wait is slots.held:
            return self._held_told
        if wait is Wait.BRAKED and brake is not None:
            return _of_brake(brake)
        for one in running:
            shared = sorted(set(one.locks).intersection(action.locks))
            if wait is Wait.APP_BUSY and shared:
                return {**_of_run(one), "lock": shared[0]}
            if wait is not Wait.APP_BUSY and one.lane is action.lane:
                return _of_run(one)
        return {}


def _of_node(connection: sqlite3.Connection, held: Wait | None, now: datetime) -> Told:
    if held is not Wait.PAUSED:
        return {} if held is None else {"since": format_instant(now)}
    meta = read_meta(connection)
    told = {"since": meta.paused_at, "by": meta.paused_by, "why": meta.pause_reason}
    return {key: value for key, value in told.items() if value}


def _of_brake(brake: Brake) -> Told:
    told = {"brake": brake.id, "what": brake.what, "by": brake.by, "why": brake.reason}
    return {key: value for key, value in told.items() if value}


def _of_run(action: Action) -> Told:
    return {"holder": action.definition.id}
