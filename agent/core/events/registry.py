"""What people may do with webhooks: make, look, enable, disable, delete, test, and dead letters.

The secret is shown once, in the answer that makes it; it must be kept as it is to sign with it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection

from agent.core.events import signing
from agent.core.events.delivery import Delivery, message_id
from agent.core.events.filter import filter_document, read_filter
from agent.core.events.reading import head_of, require_kept
from agent.core.events.webhooks import hook_of
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.store.locks import serialize
from agent.core.store.port import AnyRow, Store
from agent.core.store.schema import webhook_failures, webhooks
from agent.core.wakeups import WEBHOOKS, Wakeups
from agent.domain.errors import NotFound, Refused, shown
from agent.domain.ids import RandomBits
from agent.domain.instants import format_instant, maybe_format
from agent.infra.clock import Clock
from agent.wire import fields as f
from agent.wire import strict_json
from agent.wire.fields import Field, read_closed

T = TypeVar("T")

WEBHOOKS_MAX = 100  # each is a task and a queue of its own
URL_CHARS_MAX = 2048
EVENT_MAX = 2**53
TEST = "webhook_test"


def read_url(value: Any) -> str:
    """An absolute http or https URL. Raises `ValueError`."""
    text = str(value) if isinstance(value, str) else ""
    is_plain = text.isascii() and text.isprintable() and " " not in text
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not (fits and is_plain and len(text) <= URL_CHARS_MAX):
        raise ValueError(f"must be a URL such as https://host/path, not {shown(value)}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not have a name or password in it: it is shown in lists")
    if parts.fragment:
        raise ValueError("must not have a #fragment: it is not sent")
    return text


def _filter(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, not {shown(value)}")
    return filter_document(read_filter(value))


_NEW = {
    "url": Field(read_url, required=True),
    "filter": Field(_filter),
    "after": Field(f.integer(0, EVENT_MAX)),
}


class Registry:
    """The service that HTTP wraps."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random_bits: RandomBits,
        wakeups: Wakeups,
        delivery: Delivery,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups
        self._delivery = delivery

    def _occasion(self) -> Occasion:
        return Occasion(self._clock.now(), self._random_bits)

    async def _change(self, work: Callable[[Connection], T]) -> T:
        """Write, then let the couriers know."""
        result = await self._store.write(work)
        self._wakeups.notify([WEBHOOKS])
        return result

    async def create(self, document: Any, by: str) -> dict[str, Any]:
        """A new one, with its secret. Raises `InvalidDocument`, `Refused`."""
        values = read_closed(document, _NEW)
        occasion = self._occasion()
        raw = occasion.random_bits(signing.SECRET_BYTES * 8).to_bytes(signing.SECRET_BYTES, "big")
        secret = signing.secret_of(raw)
        made = await self._change(lambda c: _create(c, occasion, values, secret, by))
        return {**made, "secret": secret}

    async def list(self) -> dict[str, Any]:
        """All of them: there are never many."""

        def work(connection: Connection) -> list[dict[str, Any]]:
            rows = connection.execute(select(webhooks).order_by(webhooks.c.id)).all()
            head = head_of(connection)
            return [_document(row, head, _failures(connection, row.id)) for row in rows]

        return {"webhooks": await self._store.read(work)}

    async def get(self, hook_id: str) -> dict[str, Any]:
        """One. Raises `NotFound`."""
        return await self._store.read(lambda c: _shown(c, hook_id))

    async def delete(self, hook_id: str, by: str) -> dict[str, Any]:
        """Take it away, with its dead letters. Raises `NotFound`."""
        occasion = self._occasion()

        def work(connection: Connection) -> dict[str, Any]:
            row = _row(connection, hook_id)
            connection.execute(
                delete(webhook_failures).where(webhook_failures.c.webhook_id == row.id)
            )
            connection.execute(delete(webhooks).where(webhooks.c.id == row.id))
            detail = {"host": hook_of(row).host}
            audit.record(connection, occasion, by, "webhook_delete", row.id, detail)
            return {"id": row.id, "deleted": True}

        return await self._change(work)

    async def enable(self, hook_id: str, by: str, *, enabled: bool) -> dict[str, Any]:
        """Deliver on from its cursor, or rest there. Raises `NotFound`."""
        occasion = self._occasion()

        def work(connection: Connection) -> dict[str, Any]:
            row = _row(connection, hook_id)
            values: dict[str, Any] = {"enabled": enabled}
            if enabled:
                values |= {"attempts": 0, "next_at": None, "last_error": None}
            connection.execute(update(webhooks).where(webhooks.c.id == row.id).values(**values))
            what = "webhook_enable" if enabled else "webhook_disable"
            audit.record(connection, occasion, by, what, row.id)
            return _shown(connection, hook_id)

        return await self._change(work)

    async def test(self, hook_id: str) -> dict[str, Any]:
        """Send a message of the type `webhook_test` now, once. Raises `NotFound`."""
        row = await self._store.read(lambda c: _row(c, hook_id))
        occasion = self._occasion()
        data = {"webhook_id": row.id}
        at = format_instant(occasion.now)
        body = strict_json.encode({"type": TEST, "timestamp": at, "data": data})
        outcome = await self._delivery.send(hook_of(row), f"msg_{occasion.new_mark()}", body)
        return {
            "delivered": outcome.error is None,
            "status": outcome.status,
            "error": outcome.error,
        }

    async def failures(self, hook_id: str, after: int, limit: int) -> dict[str, Any]:
        """A page of its dead letters, oldest first. Raises `NotFound`."""
        return await self._store.read(lambda c: _letters(c, hook_id, after, limit))

    async def retry(self, hook_id: str, number: int, by: str) -> dict[str, Any]:
        """Send a dead letter once more; delivered, it is off the list. Raises `NotFound`."""
        row, letter = await self._store.read(
            lambda c: (_row(c, hook_id), _letter(c, hook_id, number))
        )
        name = message_id(row.id, letter.event_id)
        outcome = await self._delivery.send(hook_of(row), name, letter.body.encode())
        occasion = self._occasion()

        def work(connection: Connection) -> None:
            this = webhook_failures.c.row == number
            if outcome.error is None:
                connection.execute(delete(webhook_failures).where(this))
            else:
                values = {"attempts": letter.attempts + 1, "error": outcome.error[:500]}
                connection.execute(update(webhook_failures).where(this).values(**values))
            detail = {"event_id": letter.event_id, "delivered": outcome.error is None}
            audit.record(connection, occasion, by, "webhook_retry", row.id, detail)

        await self._store.write(work)
        return {
            "delivered": outcome.error is None,
            "status": outcome.status,
            "error": outcome.error,
        }

    async def drop(self, hook_id: str, number: int, by: str) -> dict[str, Any]:
        """Forget a dead letter. Raises `NotFound`."""
        occasion = self._occasion()

        def work(connection: Connection) -> dict[str, Any]:
            letter = _letter(connection, hook_id, number)
            connection.execute(delete(webhook_failures).where(webhook_failures.c.row == number))
            detail = {"event_id": letter.event_id}
            audit.record(connection, occasion, by, "webhook_drop", hook_id, detail)
            return {"row": number, "deleted": True}

        return await self._store.write(work)


def _create(
    connection: Connection, occasion: Occasion, values: dict[str, Any], secret: str, by: str
) -> dict[str, Any]:
    serialize(connection, "webhooks")
    if (connection.execute(select(func.count()).select_from(webhooks)).scalar() or 0) >= (
        WEBHOOKS_MAX
    ):
        raise Refused("too_many", f"there are {WEBHOOKS_MAX} webhooks; delete one first")
    after = values.get("after")
    cursor = head_of(connection) if after is None else require_kept(connection, after)
    hook_id = occasion.new_id()
    wanted = values.get("filter", {})
    row = {
        "id": hook_id,
        "url": values["url"],
        "secret": secret,
        "filter": strict_json.encode_text(wanted),
        "enabled": True,
        "created_at": occasion.now,
        "created_by": by,
        "cursor": cursor,
    }
    connection.execute(insert(webhooks), [row])
    detail = {"host": hook_of(_row(connection, hook_id)).host, "filter": wanted}
    audit.record(connection, occasion, by, "webhook_create", hook_id, detail)
    return _shown(connection, hook_id)


def _row(connection: Connection, hook_id: str) -> AnyRow:
    row = connection.execute(select(webhooks).where(webhooks.c.id == hook_id)).first()
    if row is None:
        raise NotFound(f"there is no webhook {shown(hook_id)}; corectl webhooks lists them")
    return row


def _shown(connection: Connection, hook_id: str) -> dict[str, Any]:
    row = _row(connection, hook_id)
    return _document(row, head_of(connection), _failures(connection, hook_id))


def _failures(connection: Connection, hook_id: str) -> int:
    of_hook = webhook_failures.c.webhook_id == hook_id
    query = select(func.count()).select_from(webhook_failures).where(of_hook)
    return connection.execute(query).scalar() or 0


def _document(row: AnyRow, head: int, failures: int) -> dict[str, Any]:
    """Everything but the secret. `behind` counts events, wanted or not."""
    next_at: datetime | None = row.next_at
    return {
        "id": row.id,
        "url": row.url,
        "filter": msgspec.json.decode(row.filter),
        "enabled": row.enabled,
        "created_at": format_instant(row.created_at),
        "created_by": row.created_by,
        "cursor": row.cursor,
        "behind": max(0, head - row.cursor),
        "attempts": row.attempts,
        "next_at": maybe_format(next_at),
        "last_error": row.last_error,
        "failures": failures,
    }


def _letter(connection: Connection, hook_id: str, number: int) -> AnyRow:
    _row(connection, hook_id)
    query = select(webhook_failures).where(
        webhook_failures.c.row == number, webhook_failures.c.webhook_id == hook_id
    )
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"the webhook {shown(hook_id)} has no dead letter {number}")
    return row


def _letters(connection: Connection, hook_id: str, after: int, limit: int) -> dict[str, Any]:
    _row(connection, hook_id)
    query = (
        select(webhook_failures)
        .where(webhook_failures.c.webhook_id == hook_id, webhook_failures.c.row > after)
        .order_by(webhook_failures.c.row)
        .limit(limit + 1)
    )
    rows = connection.execute(query).all()
    page = rows[:limit]
    return {
        "failures": [
            {
                "row": row.row,
                "event_id": row.event_id,
                "attempts": row.attempts,
                "error": row.error,
                "at": format_instant(row.at),
                "message": msgspec.json.decode(row.body),
            }
            for row in page
        ],
        "next": str(page[-1].row) if len(rows) > limit else None,
    }
