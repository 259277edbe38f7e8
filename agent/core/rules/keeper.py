"""The rules of a running core: which hold now, loading them anew, and trying one out.

A reload is all or nothing: one fault in one file, and the book that was loaded stays. What a
dispatch is judged by is swapped in one assignment, between two dispatches.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.actions.resolving import require_in_service
from agent.core.actions.submission import read_submission
from agent.core.actions.targets import Target
from agent.core.nodes.selection import facts_of
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.rules.book import Asked, RuleBook
from agent.core.rules.loading import load_rules
from agent.core.rules.rule import Rule, Scene
from agent.core.rules.verdict import Verdict
from agent.core.store.port import Store
from agent.core.wakeups import EVENTS, Wakeups
from agent.domain.errors import Fault, InvalidDocument, Refused
from agent.domain.ids import RandomBits
from agent.domain.instants import format_instant
from agent.infra.clock import Clock
from agent.wire import fields as f
from agent.wire.definition import encode_definition
from agent.wire.fields import Field, read_closed

NODE_BYTES_MAX = 16 * 1024
FAULTS_IN_EVENT_MAX = 10  # the answer has all of them, `GET /v1/rules` too
_NOBODY = Target(node="none")  # a test may leave open where it goes


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last reload that failed since the book was loaded."""

    at: datetime
    by: str
    faults: tuple[Fault, ...]


class LiveRules:
    """What dispatches are judged by: the book of the moment, and the clock."""

    def __init__(self, clock: Clock, book: RuleBook | None = None) -> None:
        self.book = book or RuleBook()
        self._clock = clock
        self.matched: Counter[tuple[str, str]] = Counter()
        """How often which rule gave which result, in this life of `cored`; for `/metrics`."""

    def judge(self, action: Mapping[str, Any], node: Mapping[str, Any]) -> Verdict:
        """See `Rules.judge`."""
        verdict = self.book.judge(Scene(action, node, self._clock.now()))
        if verdict.rule is not None:
            self.matched[verdict.rule, verdict.result.value] += 1
        return verdict


class RuleKeeper:
    """List, reload, test."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random_bits: RandomBits,
        wakeups: Wakeups,
        live: LiveRules,
        directory: Path | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups
        self._live = live
        self._directory = directory
        self._loaded_at = clock.now()
        self._refusal: Refusal | None = None
        self._reloading = asyncio.Lock()

    def _occasion(self) -> Occasion:
        return Occasion(self._clock.now(), self._random_bits)

    def list(self) -> dict[str, Any]:
        """The rules that hold, in the order in which they are asked."""
        book = self._live.book
        return {
            "rules": [_rule_document(rule) for rule in book.rules],
            "digest": book.digest or None,
            "directory": None if self._directory is None else str(self._directory),
            "loaded_at": format_instant(self._loaded_at),
            "refused": None if self._refusal is None else _refusal_document(self._refusal),
        }

    async def reload(self, by: str) -> dict[str, Any]:
        """Read the files anew; the list as it is then.

        Raises `InvalidDocument` with every fault, and the rules stay; `Refused` where there is no
        directory of rules.
        """
        directory = self._directory
        if directory is None:
            raise Refused("no_rules", "this core was started without --rules-dir; it has no rules")
        async with self._reloading:
            occasion = self._occasion()
            try:
                book = await asyncio.to_thread(load_rules, directory)
            except InvalidDocument as error:
                refusal = Refusal(occasion.now, by, error.faults)
                await self._store.write(lambda c: _record_refusal(c, occasion, refusal))
                self._refusal = refusal
                self._wakeups.notify([EVENTS])
                raise
            await self._store.write(lambda c: _record_reload(c, occasion, book, by))
            self._live.book, self._loaded_at, self._refusal = book, occasion.now, None
            self._wakeups.notify([EVENTS])
            return self.list()

    async def test(self, document: Any) -> dict[str, Any]:
        """What the rules say of a dispatch, and why; nothing is stored.

        Raises `InvalidDocument`, `NotFound` (the node), `Refused` (it is decommissioned).
        """
        asked = read_closed(document, _TEST)
        occasion = self._occasion()
        definition = read_submission(asked["action"], occasion, _NOBODY).definition
        action = encode_definition(definition)
        node = asked.get("node", definition.node)
        if isinstance(node, str):
            action["node"] = node
            name = node
            node = await self._store.read(lambda c: _node_facts(c, name))
        book = self._live.book
        scene = Scene(action, node or {}, occasion.now)
        trail = await asyncio.to_thread(book.explain, scene)  # many rules on much data take a while
        return _tested(trail, node)


def _node(value: Any) -> Any:
    """The id of a node, or what is to be known of one."""
    return f.action_id(value) if isinstance(value, str) else f.json_object(NODE_BYTES_MAX)(value)


def _action(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("must be an object, as for POST /v1/dispatch")
    return value


_TEST = {"action": Field(_action, required=True), "node": Field(_node)}


def _node_facts(connection: Connection, name: str) -> dict[str, Any]:
    require_in_service(connection, name)
    return facts_of(connection, [name])[0].for_rules()


def _record_reload(connection: Connection, occasion: Occasion, book: RuleBook, by: str) -> None:
    body = {"digest": book.digest, "rules": len(book.rules), "requested_by": by}
    journal.append(connection, occasion, "", journal.RULES_RELOADED, body=body)
    audit.record(connection, occasion, by, "rules_reload", "rules", body)


def _record_refusal(connection: Connection, occasion: Occasion, refusal: Refusal) -> None:
    faults = [str(fault) for fault in refusal.faults[:FAULTS_IN_EVENT_MAX]]
    body = {"faults": faults, "count": len(refusal.faults), "requested_by": refusal.by}
    journal.append(connection, occasion, "", journal.RULES_REFUSED, body=body)
    audit.record(connection, occasion, refusal.by, "rules_refused", "rules", body)


def _rule_document(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "priority": rule.priority,
        "enabled": rule.is_enabled,
        "description": rule.description,
        "decides": rule.says,
        "file": rule.file,
        "line": rule.line,
    }


def _refusal_document(refusal: Refusal) -> dict[str, Any]:
    return {
        "at": format_instant(refusal.at),
        "by": refusal.by,
        "faults": [{"path": fault.path, "message": fault.message} for fault in refusal.faults],
    }


def _tested(trail: list[Asked], node: Any) -> dict[str, Any]:
    last = trail[-1] if trail else None
    verdict = last.finding.verdict if last is not None and last.finding is not None else None
    failed = last.failed if last is not None else None
    told = verdict or Verdict()
    return {
        "result": None if failed is not None else told.result.value,
        "rule": last.rule.name if last is not None and (verdict or failed) else None,
        "reason": told.reason,
        "delay_seconds": told.delay_s,
        "ttl_seconds": told.ttl_s,
        "risk_level": told.risk_level.value if told.risk_level is not None else None,
        "min_confidence": told.min_confidence,
        "failed": failed,
        "node": node or None,
        "trail": [_asked_document(asked) for asked in trail],
    }


def _asked_document(asked: Asked) -> dict[str, Any]:
    finding = asked.finding
    return {
        "rule": asked.rule.name,
        "file": asked.rule.file,
        "line": asked.rule.line,
        "matched": finding is not None and finding.verdict is not None,
        "why": asked.failed if finding is None else finding.why,
    }
