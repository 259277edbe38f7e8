"""What people and programs on this node ask of recurring actions. Decided by the domain.

Each command is one transaction; it returns after the commit, and then the engine is woken.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from agent.domain.action import Action
from agent.domain.definition import Definition, Owner, Requester
from agent.domain.errors import Fault, InvalidDocument, Refused, shown
from agent.domain.instants import format_instant
from agent.domain.reconcile import Verdict
from agent.domain.recurring import Ended, Recurring, by_hand
from agent.domain.schedule.recurrence import first_state, occurrences_between
from agent.node.catalogue import Kinds
from agent.node.commands import Commands
from agent.node.engine import Engine
from agent.node.ledger import Ledger
from agent.node.occurrences import Planner, free_id
from agent.node.ports import Store
from agent.node.recurring import apply_definition, pause, resume
from agent.node.recurring_views import find
from agent.node.restraint_file import RestraintFile
from agent.node.store import actions, recurring

T = TypeVar("T")
BACKFILL_MAX = 1_000  # occurrences that wait because somebody asked for the past
COUNTED_MAX = 20_000  # how far a range that is too long is counted, for the message: 0.1 s


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """[begin, end): the instants to be run again."""

    begin: datetime
    end: datetime


class RecurringCommands:
    """The writes of the local API about recurring actions."""

    def __init__(
        self, *, store: Store, ledger: Ledger, engine: Engine, kinds: Kinds, commands: Commands,
        kept: RestraintFile | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._ledger = ledger
        self._engine = engine
        self._kinds = kinds
        self._commands = commands
        self._kept = kept

    async def create(self, document: Any, requester: Requester = Requester.AGENT_API) -> Recurring:
        """A recurring action of this node. Raises `InvalidDocument` or `Refused` (`conflict`)."""
        definition = await self._decode(document, requester)

        def decide(planner: Planner) -> Recurring:
            return self._apply(planner, _as_new(planner, definition))

        return await self._do(decide)

    async def replace(self, rule_id: str, document: Any) -> Recurring:
        """The whole new definition of one of this node's. Affects later instants only."""
        current = await self._store.read(lambda c: find(c, rule_id))
        _require_ours(current, "changed")
        if isinstance(document, dict):
            named = document.get("id", document.get("action_id")) or rule_id
            if named != rule_id:
                text = f"{shown(named)} is not {rule_id!r}; a new id is a new recurring action"
                raise InvalidDocument([Fault("id", text)])
            document = {**document, "id": rule_id}
            document.setdefault("revision", current.definition.revision + 1)
        definition = await self._decode(document, current.definition.requester)

        def decide(planner: Planner) -> Recurring:
            newest = find(planner.connection, rule_id)
            if definition.revision <= newest.definition.revision:
                raise Refused(
                    "conflict",
                    f"revision {definition.revision} is not newer than the "
                    f"{newest.definition.revision} that is there; read it again, then change it",
                )
            return self._apply(planner, definition)

        return await self._do(decide)

    async def remove(self, rule_id: str) -> Recurring:
        """End one of this node's: what waits of it ends, what runs goes on."""

        def decide(planner: Planner) -> Recurring:
            rule = find(planner.connection, rule_id)
            _require_ours(rule, "removed")
            return rule if rule.ended_at is not None else planner.end(rule, Ended.WITHDRAWN)

        return await self._do(decide)

    async def cancel(self, rule_id: str) -> Recurring | None:
        """End it on this node, whoever owns it; None where there is no such recurring action."""
        if not await self._store.read(lambda c: recurring.exists(c, rule_id)):
            return None

        def decide(planner: Planner) -> Recurring:
            rule = find(planner.connection, rule_id)
            if rule.ended_at is not None:
                raise Refused(
                    "final", f"recurring action {rule_id!r} is over already: {rule.ended_reason}"
                )
            return planner.end(rule, Ended.CANCELLED_ON_NODE)

        return await self._do(decide)

    async def pause(self, rule_id: str, reason: str | None) -> Recurring:
        """Plan nothing more of it until `resume`; the node's right, whoever owns it."""
        return await self._do(lambda p: pause(p, _standing(p, rule_id), reason))

    async def resume(self, rule_id: str) -> Recurring:
        """Plan again; the pause counts as downtime."""
        return await self._do(lambda p: resume(p, _resumable(p, rule_id)))

    async def run(self, rule_id: str) -> Action:
        """One occurrence now, beside the schedule: not counted, and never beside another one."""

        def decide(planner: Planner) -> Action:
            rule = _runnable(planner, rule_id)
            if _waiting_by_hand(planner, rule) >= BACKFILL_MAX:
                raise Refused(
                    "too_many",
                    f"{BACKFILL_MAX} occurrences of {rule_id!r} that were asked for by hand wait "
                    "already; wait, or cancel some",
                )
            return _by_hand(planner, rule, planner.now.replace(microsecond=0))

        return await self._do(decide)

    async def backfill(self, rule_id: str, asked: Backfill) -> list[Action]:
        """Every instant of the range once more, each under its own id; they take their turn."""

        def decide(planner: Planner) -> list[Action]:
            rule = _runnable(planner, rule_id)
            instants = self._instants(planner, rule, asked)
            return [_by_hand(planner, rule, nominal_at) for nominal_at in instants]

        return await self._do(decide)

    def _instants(self, planner: Planner, rule: Recurring, asked: Backfill) -> list[datetime]:
        begin, end = asked.begin, asked.end
        if not begin < end <= planner.now:
            now = format_instant(planner.now)
            text = f"a backfill is of the past: from < to, and to not after now ({now})"
            raise InvalidDocument([Fault("to", text)])
        found = occurrences_between(
            rule.schedule, rule.state.anchor_at, begin, end, zone=self._ledger.place.zone
        )
        instants = list(islice(found, COUNTED_MAX))
        waiting = _waiting_by_hand(planner, rule)
        if len(instants) + waiting > BACKFILL_MAX:
            least = "at least " if len(instants) == COUNTED_MAX else ""
            raise Refused(
                "too_many",
                f"that range has {least}{len(instants)} instants and {waiting} backfilled ones "
                f"wait already; at most {BACKFILL_MAX} may. Ask for a shorter range.",
            )
        return instants

    async def _decode(self, document: Any, requester: Requester | None) -> Definition:
        await self._commands.look_at_catalogue()
        definition = self._commands.decode(document, requester or Requester.AGENT_API)
        if definition.schedule is None:
            raise InvalidDocument([Fault("schedule", "is missing; without it this is an action")])
        if not definition.should_be_executed:
            text = "false makes nothing happen; remove the recurring action instead"
            raise InvalidDocument([Fault("should_be_executed", text)])
        return definition

    def _apply(self, planner: Planner, definition: Definition) -> Recurring:
        verdict, rule, faults = apply_definition(planner, definition)
        if faults or rule is None or verdict is Verdict.REFUSED:
            raise InvalidDocument(faults)
        if verdict is Verdict.TOO_LATE:
            raise Refused(
                "final",
                f"recurring action {definition.id!r} was cancelled on this node and stays so; "
                "nothing was changed. Create it again (agentctl recurring add, or POST) to begin "
                "anew.",
            )
        if rule.ended_at is None:  # an ended one has told so itself
            self._ledger.tell_recurring(planner.connection, rule, planner.now)
        return rule

    async def _do(self, decide: Callable[[Planner], T]) -> T:
        def operation(connection: sqlite3.Connection) -> tuple[T, Planner]:
            moment = self._engine.clock_watch.moment()
            planner = Planner(connection, self._ledger, moment.at, self._kinds.lane)
            planner.doubted = moment.doubted
            return decide(planner), planner

        done, planner = await self._store.write(operation)
        self._engine.metrics.turned((), planner.ended)
        self._engine.wake()
        self._engine.changes.notify()
        if self._kept is not None and isinstance(done, Recurring):
            await self._kept.keep_pause(done)
        return done


def _as_new(planner: Planner, definition: Definition) -> Definition:
    """The definition as the first of its id, or as the next of one that is over. Raises `Refused`.

    What is over may begin anew, uncounted; its watermark stays, so that no instant runs twice.
    """
    known = recurring.by_id(planner.connection, definition.id)
    taken = actions.by_id(planner.connection, definition.id)
    over = known is not None and known.ended_at is not None
    ours = known is not None and known.definition.owner is Owner.NODE
    if taken is not None or (known is not None and not (over and ours)):
        sort = "an action" if taken is not None else "a recurring action"
        raise Refused(
            "conflict",
            f"there is already {sort} {definition.id!r}; nothing was changed. "
            "Change a recurring action with `agentctl recurring edit` (PUT), or leave the id out "
            "to get a fresh one.",
        )
    if known is None:
        return definition
    assert definition.schedule is not None, "the caller looked"
    # Also its intervals and delays are counted from now, as of one that was never there.
    anchor_at = first_state(definition.schedule, planner.now, definition.from_date).anchor_at
    state = replace(known.state, run_count=0, anchor_at=anchor_at)
    fresh = replace(known, paused=None, ended_reason=None, state=state, doubted=planner.doubted)
    recurring.update(planner.connection, fresh)
    return replace(definition, revision=max(definition.revision, known.definition.revision + 1))


def _standing(planner: Planner, rule_id: str) -> Recurring:
    rule = find(planner.connection, rule_id)
    if rule.ended_at is not None:
        raise Refused("final", f"recurring action {rule_id!r} is over already: {rule.ended_reason}")
    return rule


def _resumable(planner: Planner, rule_id: str) -> Recurring:
    """Its owner's pause is not this node's to lift."""
    rule = _standing(planner, rule_id)
    if rule.paused_by == "owner":
        raise Refused(
            "paused_by_owner",
            f"recurring action {rule_id!r} is paused {rule.paused_by_owner}; it is resumed where "
            "that was said (corectl recurring resume, or an edit of its schedule)",
        )
    return rule


def _runnable(planner: Planner, rule_id: str) -> Recurring:
    """One that an occurrence can be made of by hand, also when it is paused or over."""
    rule = find(planner.connection, rule_id)
    if rule.parked is not None:
        raise Refused("parked", f"recurring action {rule_id!r} cannot run: {rule.parked}")
    if not rule.definition.should_be_executed:
        raise Refused("final", f"recurring action {rule_id!r} was withdrawn by the core")
    return rule


def _by_hand(planner: Planner, rule: Recurring, nominal_at: datetime) -> Action:
    action_id = free_id(planner.connection, rule.id, nominal_at)
    definition = by_hand(rule, nominal_at, action_id, planner.now)
    return planner.insert(rule, definition, due_at=planner.now)


def _waiting_by_hand(planner: Planner, rule: Recurring) -> int:
    open_ = recurring.open_occurrences(planner.connection, rule.id, planner.now)
    return sum(1 for one in open_ if not one.regular)


def _require_ours(rule: Recurring, what: str) -> None:
    if rule.definition.owner is not Owner.NODE:
        raise Refused(
            "conflict",
            f"recurring action {rule.id!r} belongs to the core and is {what} there; on this node "
            "it can be paused, or ended with cancel",
        )
