"""Dispatch over a core in memory: nodes are put in as rows, rules are the test's own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

from sqlalchemy import insert, select, update

from agent.core.actions.listing import ActionRef, Filter
from agent.core.actions.service import Dispatch
from agent.core.actions.terms import Terms
from agent.core.rules.verdict import Verdict
from agent.core.store.inline import InlineStore
from agent.core.store.port import AnyRow, Store
from agent.core.store.schema import (
    actions,
    agent_labels,
    agents,
    approvals,
    audit,
    dedup_keys,
    deliveries,
    events,
)
from agent.core.wakeups import Wakeups
from agent.wire.messages import NodeReport
from agent.wire.strict_json import encode_text

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
Judge = Callable[[Mapping[str, Any], Mapping[str, Any]], Verdict]
_CHANGED = (actions, deliveries, events, audit, dedup_keys, approvals)


class SteppedClock:
    """A wall clock of the test's own."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - START).total_seconds()

    def pass_by(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class FunctionRules:
    """Rules that are a function; it counts how often it was asked."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.asked: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []

    def judge(self, action: Mapping[str, Any], node: Mapping[str, Any]) -> Verdict:
        self.asked.append((action, node))
        return self._judge(action, node)


def report_of(kinds: Sequence[Mapping[str, Any]]) -> str:
    """What is stored of a node that told of these kinds."""
    return encode_text(NodeReport(version="1", catalogue=[dict(kind) for kind in kinds]))


class DispatchingCore:
    """The service, its store and clock."""

    def __init__(self, store: Store | None = None, **terms: Any) -> None:
        self.store: Store = store or InlineStore.in_memory()
        self.clock = SteppedClock()
        self.wakeups = Wakeups()
        self.dispatch = Dispatch(
            self.store, self.clock, secrets.randbits, self.wakeups, Terms(**terms)
        )

    async def add_nodes(
        self,
        *names: str,
        labels: Mapping[str, str] | None = None,
        kinds: Sequence[Mapping[str, Any]] | None = None,
        **columns: Any,
    ) -> None:
        """Nodes as if they had enrolled; `kinds` is the catalogue, None: nothing reported yet."""
        report = None
        if kinds is not None:
            report = report_of(kinds)
        fresh = {"enrolled_at": START, "stream_epoch": "e", "acked_mark": "m", "report": report}
        rows = [{"id": name, **fresh, **columns} for name in names]
        held = [
            {"agent_id": name, "key": key, "value": value}
            for name in names
            for key, value in (labels or {}).items()
        ]
        await self.store.write(lambda c: c.execute(insert(agents), rows))
        if held:
            await self.store.write(lambda c: c.execute(insert(agent_labels), held))

    async def send(self, kind: Any = "sleep", **more: Any) -> dict[str, Any]:
        """A dispatch by an operator who may not approve."""
        flags = {name: more.pop(name) for name in ("dry_run", "wait_s", "may_approve", "by")
                 if name in more}  # fmt: skip
        return await self.dispatch.dispatch({"kind": kind, **more}, **flags)

    async def get(self, action_id: str) -> dict[str, Any]:
        return await self.dispatch.get(ActionRef(id=action_id))

    async def ids(self, **wanted: Any) -> list[str]:
        page = await self.dispatch.list(Filter(**wanted))
        return [one["id"] for one in page["actions"]]

    async def rows(self, table: Any) -> list[AnyRow]:
        found = await self.store.read(lambda c: c.execute(select(table)).all())
        return list(found)

    async def counts(self) -> list[int]:
        """How much there is of everything that a dispatch writes."""
        return [len(await self.rows(table)) for table in _CHANGED]

    async def delivered(self, node: str) -> list[str]:
        """The actions in a node's stream, in order."""
        query = select(deliveries.c.ref).where(deliveries.c.agent_id == node)
        ordered = query.order_by(deliveries.c.seq)
        return await self.store.read(lambda c: list(c.execute(ordered).scalars()))

    async def report(self, action_id: str, **columns: Any) -> None:
        """What the node would have told of an action."""
        query = update(actions).where(actions.c.id == action_id).values(**columns)
        await self.store.write(lambda c: c.execute(query))


def scenario(
    test: Callable[..., Coroutine[Any, Any, None]],
) -> Callable[..., None]:
    """An async test, on a loop of its own."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run
