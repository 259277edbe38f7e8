"""What people and programs on this node ask of actions: submit, cancel, retry. The domain decides.

Each command is one transaction; it returns after the commit, and then the engine is woken.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.domain.action import Action, kin_lock
from agent.domain.definition import Definition, Owner, Requester
from agent.domain.errors import Fault, InvalidDocument, NotFound, Refused, shown
from agent.domain.ids import RandomBits, new_id
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.retrying import retried
from agent.domain.starting import unstart
from agent.infra.clock import Clock
from agent.node.catalogue import Kinds
from agent.node.engine import Engine
from agent.node.hands import Hands
from agent.node.ledger import Ledger
from agent.node.ports import RunnerAway, RunnerRefused, Store
from agent.node.store import actions, recurring
from agent.wire.definition import FIELDS, decode_definition, decode_submitted, encode_definition
from agent.wire.fields import read_closed


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """Bounds on what may wait: `queued_max` due ones submitted here, `pending_max` future ones."""

    queued_max: int = 10_000
    pending_max: int = 1_000_000


class Commands:
    """The writes of the local API."""

    def __init__(
        self, *, store: Store, ledger: Ledger, engine: Engine, hands: Hands, kinds: Kinds,
        clock: Clock, random_bits: RandomBits, limits: QueueLimits,
    ) -> None:  # fmt: skip
        self._store = store
        self._ledger = ledger
        self._engine = engine
        self._hands = hands
        self._kinds = kinds
        self._clock = clock
        self._random_bits = random_bits
        self._limits = limits

    async def submit(
        self, document: Any, requester: Requester = Requester.AGENT_API, *, written: bool = True
    ) -> Action:
        """Accept a definition of this node. Raises `InvalidDocument` or `Refused`; idempotent not:
        a repeated id is refused (`conflict`) and changes nothing. `written`: by somebody, just now.
        """
        await self.look_at_catalogue()
        definition = self.decode(document, requester, written=written)
        if definition.schedule is not None:
            text = "makes it a recurring action, which does not come in by this door"
            raise InvalidDocument([Fault("schedule", text)])
        lane = self._kinds.lane(definition.kind)

        def accept(connection: sqlite3.Connection) -> Action:
            now = self._clock.now()
            if actions.by_id(connection, definition.id) is not None:
                raise Refused(
                    "conflict",
                    f"there is already an action {definition.id!r}; nothing was changed. "
                    "Leave the id out to get a fresh one.",
                )
            require_no_rule(connection, definition.id)
            self._require_room(connection, definition)
            return self._ledger.accept(connection, definition, now, lane=lane)

        action = await self._store.write(accept)
        self._engine.wake()
        self._engine.changes.notify()
        return action

    async def retry(self, action_id: str, body: Any) -> Action:
        """The same again, as a new action with `retry_of`; `body` may bring an `approval`.

        Raises `NotFound`, `InvalidDocument`, or `Refused` (`not_final`) where it has not ended.
        """
        old = await self._store.read(lambda c: actions.by_id(c, action_id))
        if old is None:
            raise NotFound(f"there is no action {action_id!r} on this node")
        if not old.is_final:
            raise Refused(
                "not_final",
                f"action {action_id!r} has not ended ({old.execution_status.value}); "
                "cancel it first, or wait",
            )
        given = read_closed(body, {"approval": FIELDS["approval"]})
        wanted = retried(old.definition, self._clock.now(), given.get("approval"))
        document = encode_definition(wanted)
        del document["id"]
        kin = kin_lock(old.definition)
        if kin is not None and old.alone:  # it never runs beside an occurrence of that rule either
            document["app_names"] = [*document.get("app_names", ()), kin]
        return await self.submit(document, written=False)  # it was accepted once, as it is

    async def cancel(self, action_id: str) -> Action:
        """Withdraw an action here: final if it waits, stopped first if it runs.

        Raises `NotFound`, or `Refused` (`final`) where it has ended. Cancelling twice is one.
        """

        def decide(connection: sqlite3.Connection) -> Action:
            action = actions.by_id(connection, action_id)
            if action is None:
                raise NotFound(f"there is no action {action_id!r} on this node")
            if action.is_final:
                raise Refused(
                    "final",
                    f"action {action_id!r} has already ended: {action.execution_status.value}",
                )
            if action.execution_status is ExecutionStatus.STARTED and not self._is_stuck(action):
                return self._ledger.ask_to_stop(connection, action, Reason.CANCELLED_ON_NODE.value)
            ending = unstart(action, Reason.CANCELLED_ON_NODE, self._clock.now())
            counts_at = self._engine.clock_watch.moment().at
            return self._ledger.move(connection, action, ending, counts_at=counts_at)

        action = await self._store.write(decide)
        if action.execution_status is ExecutionStatus.STARTED:
            self._engine.stop(action)
        else:
            self._engine.metrics.turned((), (action,))
        self._engine.wake()
        self._engine.changes.notify()
        return action

    def _is_stuck(self, action: Action) -> bool:
        """Parked with a run that is over: nothing else would ever end it."""
        return (
            action.parked is not None
            and self._engine.runner_ready
            and action.row not in self._engine.running
        )

    async def look_at_catalogue(self) -> None:
        """Take note of kinds that were added, changed or removed.

        Without the runner what was known last counts, for the start checks again. Raises `Refused`
        (`unavailable`) where nothing is known yet: no kind would be the wrong answer.
        """
        try:
            await self._hands.refresh_kinds()
        except (RunnerAway, RunnerRefused) as error:
            if not self._kinds.catalogue.digest:
                raise Refused(
                    "unavailable",
                    f"the kinds of this node are not known before its runner answers: {error}",
                ) from None

    def decode(self, document: Any, requester: Requester, *, written: bool = True) -> Definition:
        """All faults together: of form, of kind and payload, of what a node may own."""
        faults: list[Fault] = []
        definition = None
        if isinstance(document, Mapping):
            document = {**document, "requester": requester.value}  # the door, not what it claims
        try:
            definition = (decode_submitted if written else decode_definition)(
                document,
                id=new_id(self._clock.now(), self._random_bits),
                owner=Owner.NODE.value,
            )
        except InvalidDocument as error:
            faults += error.faults
        if isinstance(document, Mapping):
            if document.get("owner", "node") != "node":
                faults.append(
                    Fault("owner", f"{shown(document['owner'])}: what comes in here is the node's")
                )
            faults += self._kind_faults(document)
            faults += [
                Fault(name, "is of occurrences, which a schedule makes; leave it out, or use `run`")
                for name in ("recurring_id", "nominal_at")
                if document.get(name) is not None
            ]
        if definition is not None:
            faults += self._kinds.approval_faults(definition)
        if definition is None or faults:
            raise InvalidDocument(faults)
        return definition

    def _kind_faults(self, document: Mapping[str, Any]) -> tuple[Fault, ...]:
        kind = document.get("kind", document.get("action_type"))
        payload = document.get("payload") or {}
        if not isinstance(kind, str) or not isinstance(payload, dict):
            return ()  # already told by the decoder
        found = self._kinds.check(kind, payload, dry_run=document.get("dry_run") is True)
        return found[1] if found else ()

    def _require_room(self, connection: sqlite3.Connection, definition: Definition) -> None:
        """A full queue refuses clearly; what is there is not touched."""
        waiting = actions.counts(connection)[ExecutionStatus.NULL.value]
        now = self._clock.now()
        future = definition.from_date is not None and definition.from_date > now
        limit = self._limits.pending_max if future else self._limits.queued_max
        if waiting < limit:
            return
        due = actions.count_due(connection, now, self._limits.queued_max)
        taken = waiting - due if future else due
        if taken >= limit:
            which = "future actions (max_pending)" if future else "due actions (max_queued)"
            raise Refused(
                "queue_full",
                f"{taken} {which} are waiting and no more are taken; wait, cancel some, "
                "or raise the limit in the configuration",
            )


def require_no_rule(connection: sqlite3.Connection, action_id: str) -> None:
    """Actions and recurring actions share one name space. Raises `Refused`."""
    if recurring.exists(connection, action_id):
        raise Refused(
            "conflict",
            f"{action_id!r} is a recurring action here; nothing was changed. "
            "Leave the id out to get a fresh one.",
        )
