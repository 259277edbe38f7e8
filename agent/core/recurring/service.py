"""What operators may do with recurring actions: what HTTP wraps and simulations call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from agent.core.actions.planning import Outcome, require_may_approve
from agent.core.actions.submission import read_submission
from agent.core.actions.terms import Asker, Terms
from agent.core.occasion import Occasion
from agent.core.recurring import backfilling, changing, forecast, rows, views
from agent.core.recurring.answers import made_document
from agent.core.recurring.backfilling import Backfill
from agent.core.recurring.changing import Made
from agent.core.recurring.membership import Settled, settle_nodes, settle_rules
from agent.core.recurring.rule import Rule
from agent.core.recurring.views import RuleFilter
from agent.core.store.port import Store
from agent.core.timers import Handler, TimerKind
from agent.core.wakeups import EVENTS, Topic, Wakeups, agent_topic
from agent.domain.errors import Fault, InvalidDocument, Refused, shown
from agent.domain.ids import RandomBits
from agent.domain.instants import format_instant
from agent.infra.clock import Clock

_SHOWN_ONLY = (
    "state", "paused", "paused_at", "backfills", "created_by", "updated_at", "deleted_at", "nodes",
    "next_at", "question", "on", "next", "revision", "owner", "requester", "approval",
    "should_be_executed",
)  # fmt: skip
"""Members of the view that an edit may bring back: they are the core's, and say nothing."""


class RecurringService:
    """Create, look, change, delete; and the timers that bring it to the nodes."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random_bits: RandomBits,
        wakeups: Wakeups,
        terms: Terms | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups
        self._terms = terms or Terms()

    def _occasion(self) -> Occasion:
        return Occasion(self._clock.now(), self._random_bits)

    def timer_handlers(self) -> dict[TimerKind, Handler]:
        """What fires when a node's labels changed, and when a question was answered."""

        def nodes(connection: Connection, occasion: Occasion, refs: Sequence[str]) -> list[Topic]:
            return settle_nodes(connection, occasion, refs, self._terms)

        def rules(connection: Connection, occasion: Occasion, refs: Sequence[str]) -> list[Topic]:
            return settle_rules(connection, occasion, refs, self._terms)

        return {TimerKind.RECURRING_NODE: nodes, TimerKind.RECURRING_RULE: rules}

    async def create(
        self, document: Any, *, by: str = "admin", may_approve: bool = False
    ) -> dict[str, Any]:
        """A new one, durable and on its way. Raises `InvalidDocument`, `NotFound`, `Refused`."""
        occasion, asker = self._occasion(), Asker(by, may_approve)
        _require_schedule(document)
        submission = read_submission(document, occasion, self._terms.default_target)
        require_may_approve(submission, asker)

        def work(connection: Connection) -> tuple[Made, dict[str, Any]]:
            made = changing.create(connection, occasion, submission, self._terms, asker)
            if made.outcome is Outcome.SUPPRESSED:
                verdict = made.parts[0].verdict
                raise Refused(
                    "suppressed",
                    f"the rule {verdict.rule!r} suppresses it on {made.rule.node!r}; nothing was "
                    "stored",
                )
            return made, views.whole(connection, made.rule, occasion.now)

        made, view = await self._store.write(work)
        self._wake(made.rule, made.settled)
        return view | made_document(made)

    async def update(
        self, rule_id: str, document: Any, *, by: str = "admin", may_approve: bool = False
    ) -> dict[str, Any]:
        """The whole new definition; later instants only. Raises as `create`."""
        occasion, asker = self._occasion(), Asker(by, may_approve)
        current = await self._store.read(lambda c: rows.find_rule(c, rule_id))
        given, expected = _as_edit(document, current)
        submission = read_submission(given, occasion)
        require_may_approve(submission, asker)

        def work(connection: Connection) -> tuple[Made, dict[str, Any]]:
            made = changing.edit(
                connection, occasion, rule_id, submission, self._terms, asker, expected=expected
            )
            return made, views.whole(connection, made.rule, occasion.now)

        made, view = await self._store.write(work)
        self._wake(made.rule, made.settled)
        return view | made_document(made)

    async def pause(self, rule_id: str, reason: str | None, *, by: str = "admin") -> dict[str, Any]:
        """Plan nothing more of it, on any node. Raises `NotFound`, `Refused`."""
        return await self._change(
            lambda c, o: changing.pause(c, o, rule_id, reason, self._terms, by)
        )

    async def resume(self, rule_id: str, *, by: str = "admin") -> dict[str, Any]:
        """Plan again. Raises `NotFound`, `Refused`."""
        return await self._change(lambda c, o: changing.resume(c, o, rule_id, self._terms, by))

    async def delete(self, rule_id: str, *, by: str = "admin") -> dict[str, Any]:
        """Withdraw it everywhere; it stays readable. Raises `NotFound`."""
        return await self._change(lambda c, o: changing.delete(c, o, rule_id, self._terms, by))

    async def _change(
        self, change: Callable[[Connection, Occasion], tuple[Rule, Settled]]
    ) -> dict[str, Any]:
        occasion = self._occasion()

        def work(connection: Connection) -> tuple[Rule, Settled, dict[str, Any]]:
            rule, settled = change(connection, occasion)
            return rule, settled, views.whole(connection, rule, occasion.now)

        rule, settled, view = await self._store.write(work)
        self._wake(rule, settled)
        return view

    async def backfill(self, rule_id: str, asked: Backfill, *, by: str = "admin") -> dict[str, Any]:
        """Its instants of the range once more, or one now; what was placed, by node."""
        occasion = self._occasion()
        made = await self._store.write(
            lambda c: backfilling.backfill(c, occasion, rule_id, asked, by)
        )
        nodes = {one.node or "" for one in made}
        self._wakeups.notify([*map(agent_topic, sorted(nodes)), EVENTS])
        shown_ones = [{"node": one.node, "action_id": one.id} for one in made]
        return {"count": len(made), "actions": shown_ones}

    async def get(
        self, rule_id: str, after: str = "", limit: int = views.NODES_SHOWN
    ) -> dict[str, Any]:
        """One, with how it stands on its nodes. Raises `NotFound`."""
        now = self._clock.now()
        return await self._store.read(
            lambda c: views.whole(c, rows.find_rule(c, rule_id), now, after, limit)
        )

    async def list(self, wanted: RuleFilter) -> dict[str, Any]:
        """A page, by id."""
        return await self._store.read(lambda c: views.list_rules(c, wanted))

    async def history(
        self, rule_id: str, node: str | None, after: int, limit: int
    ) -> dict[str, Any]:
        """Its occurrences, newest first, also of a deleted one. Raises `NotFound`."""
        now = self._clock.now()
        return await self._store.read(
            lambda c: views.occurrences(c, rows.find_rule(c, rule_id), node, after, limit, now)
        )

    async def forecast(self, question: forecast.Question) -> dict[str, Any]:
        """What will start. Raises `NotFound` (the rule), `InvalidDocument` (until)."""
        _require_future(question.now, question.until)

        def look(connection: Connection) -> dict[str, Any]:
            if question.rule_id is not None:
                rows.find_rule(connection, question.rule_id)
            return forecast.forecast_view(connection, question)

        return await self._store.read(look)

    def now(self) -> datetime:
        """The core's wall clock."""
        return self._clock.now()

    def _wake(self, rule: Rule, settled: Settled) -> None:
        self._wakeups.notify(settled.topics(rule.id))


def _require_future(now: datetime, until: datetime) -> None:
    if until <= now:
        text = f"{format_instant(until)} is not after now ({format_instant(now)})"
        raise InvalidDocument([Fault("until", text)])


def _require_schedule(document: Any) -> None:
    """First: without one the rest would be read as a dispatch, which has other rules."""
    if isinstance(document, dict) and document.get("schedule") is None:
        raise InvalidDocument([Fault("schedule", "is missing; without it this is a dispatch")])


def _as_edit(document: Any, current: Rule) -> tuple[dict[str, Any], int | None]:
    """The document of an edit as one of a dispatch, and the revision that it was made from.

    What a view shows besides may be sent back with it. Where it does not say where, that stays.
    """
    if not isinstance(document, dict):
        raise InvalidDocument([Fault("", f"must be an object, not {shown(document)}")])
    faults = []
    named = document.get("id", document.get("action_id"))
    if named is not None and named != current.id:
        text = f"{shown(named)} is not {current.id!r}; a new id is a new recurring action"
        faults.append(Fault("id", text))
    expected = document.get("revision")
    if expected is not None and (isinstance(expected, bool) or not isinstance(expected, int)):
        faults.append(Fault("revision", f"must be a whole number, not {shown(expected)}"))
    if faults:
        raise InvalidDocument(faults)
    _require_schedule(document)
    given = {key: value for key, value in document.items() if key not in _SHOWN_ONLY}
    given.pop("action_id", None)
    given["id"] = current.id
    if given.get("created_at") is None and current.definition.created_at is not None:
        given["created_at"] = format_instant(current.definition.created_at)
    if given.get("node") is None and given.get("selector") is None:
        given["node"] = current.node
        given["selector"] = None if current.selector is None else str(current.selector)
    return given, expected
