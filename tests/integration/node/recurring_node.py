"""A node without a daemon: turns against a real database at instants that the test names."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from agent.domain.action import Action
from agent.domain.ending import RunState
from agent.domain.instants import format_instant, parse_instant
from agent.domain.manifest import Manifest, agree_terms
from agent.domain.recurring import Place, Recurring
from agent.domain.starting import Running, Slots
from agent.node.engine import run_key
from agent.node.gaps import Gaps
from agent.node.ledger import Ledger
from agent.node.occurrences import Planner
from agent.node.recurring import apply_definition
from agent.node.store import actions, events, recurring
from agent.node.turn import Ended, TurnInput, TurnResult, run_turn
from agent.node.waits import Waits
from agent.wire.definition import decode_definition
from tests.integration.node.database import make_ledger, open_memory
from tests.unit.domain.builders import make_record


def at(text: str) -> datetime:
    """`03:00` is of the day that these tests play on; else a whole instant."""
    return parse_instant(f"2026-03-01T{text}Z" if "T" not in text else text)


class RecurringNode:
    """What recurring actions need of a node; the scripts end when the test says so."""

    def __init__(self, connection: sqlite3.Connection | None = None) -> None:
        self.connection = connection or open_memory()
        self.ledger: Ledger = make_ledger()
        self.ledger.place = Place(node="n1", zone="UTC")
        self.now = at("00:00")
        self.running: dict[str, Action] = {}
        self.paused = False
        self.runner_away = False
        self.waits = Waits()
        self.gaps = Gaps()
        self.manifests: Mapping[str, Manifest] = {"job": Manifest(kind="job", parallel=True)}

    def planner(self) -> Planner:
        return Planner(
            self.connection, self.ledger, self.now, lambda kind: self.manifests[kind].lane
        )

    def add(self, name: str, schedule: Any, **fields: Any) -> Recurring:
        document = {"id": name, "kind": "job", "schedule": schedule} | fields
        definition = decode_definition(document, owner="node")
        verdict, rule, faults = apply_definition(self.planner(), definition)
        assert not faults, faults
        assert rule is not None, verdict
        return rule

    def faults(self, name: str, schedule: Any, **fields: Any) -> str:
        document = {"id": name, "kind": "job", "schedule": schedule} | fields
        found = apply_definition(self.planner(), decode_definition(document, owner="node"))[2]
        return "; ".join(str(fault) for fault in found)

    def turn(self, moment: str | datetime | None = None, *ended: Ended) -> TurnResult:
        """One transaction of the engine, repeated while it asks to be."""
        if moment is not None:
            self.now = at(moment) if isinstance(moment, str) else moment
        result = run_turn(self.connection, self.ledger, self._given(ended))
        for action in result.started:
            self.running[action.definition.id] = action
        return self.turn() if result.again else result

    def end(
        self, action_id: str, moment: str | datetime | None = None, **record: Any
    ) -> TurnResult:
        """The script ends, now or then."""
        if moment is not None:
            self.now = at(moment) if isinstance(moment, str) else moment
        action = self.running.pop(action_id)
        told = make_record(started_at=action.started_at, ended_at=self.now, **record)
        ended = Ended(key=run_key(action), state=RunState.EXITED, record=told)
        return self.turn(None, ended)

    def live(self, until: str | datetime, *, takes_s: float = 0.5) -> None:
        """As the engine does: sleep to the next instant, and again; every script runs for a bit."""
        last = at(until) if isinstance(until, str) else until
        while True:
            result = self.turn()
            ends = [(a.started_at + timedelta(seconds=takes_s), a.definition.id)
                    for a in self.running.values() if a.started_at]  # fmt: skip
            first = min(ends, default=(last + timedelta(seconds=1), ""))
            upcoming = min(first[0], result.next_at or first[0])
            if upcoming > last:
                self.now = last
                return
            self.now = upcoming
            if first[0] <= upcoming:
                self.end(first[1])

    def _given(self, ended: tuple[Ended, ...]) -> TurnInput:
        running = [Running(lane=a.lane, app_names=a.locks) for a in self.running.values()]
        return TurnInput(
            now=self.now, gaps=self.gaps.during, endings=ended,
            slots=Slots.beside(running, 50, paused=self.paused,
                                           runner_away=self.runner_away),
            running=tuple(self.running.values()), waits=self.waits,
            manifest_of=self.manifests.get, jitter=0.0,
            terms_of=lambda action: agree_terms(action.definition, None),
        )  # fmt: skip

    def rule(self, name: str) -> Recurring:
        found = recurring.by_id(self.connection, name)
        assert found is not None
        return found

    def occurrences(self, name: str) -> list[tuple[str, str, str | None]]:
        """(what follows the name in the id, status, reason), in the order of rows."""
        rows = self.connection.execute(
            "SELECT id, execution_status, reason FROM actions WHERE recurring_id = ? ORDER BY row",
            (name,),
        )
        return [(row[0].removeprefix(f"{name}@2026-03-01T"), row[1], row[2]) for row in rows]

    def status(self, action_id: str) -> tuple[str, str | None]:
        action = self.action(action_id)
        return action.execution_status.value, action.reason

    def action(self, action_id: str) -> Action:
        found = actions.by_id(self.connection, action_id)
        assert found is not None, f"{action_id} is not there"
        return found

    def told(self, name: str) -> list[dict[str, Any]]:
        """What the core is told of the recurring action itself."""
        found = [event.plain() for event in events.after(self.connection, 0, 10_000)]
        return [one for one in found if one.get("action_id") == name]


def instant(moment: datetime | None) -> str | None:
    return None if moment is None else format_instant(moment)
