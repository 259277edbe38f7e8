"""What must not happen twice within a time: keys, each with what the first one was answered.

A key is taken in the transaction that stores what it stands for, by one writer at a time; so of two
that come at once the second one finds the first. One that has expired is as good as none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection

from agent.core.occasion import Occasion
from agent.core.store.locks import IDS_PER_QUERY
from agent.core.store.schema import dedup_keys
from agent.wire.strict_json import encode_text

FORGOTTEN_BESIDE = 100  # expired keys that leave with each dispatch that takes one
_BY_THE_CALLER, _BY_A_RULE = "given:", "rule:"


@dataclass(frozen=True, slots=True)
class Taken:
    """A key to be taken: for how long, and what a repeat is to be told of the first one."""

    key: str
    ttl_s: float
    first: Mapping[str, Any]


def given_key(text: str) -> str:
    """The key that a caller chose: one for the whole dispatch, wherever it goes."""
    return _BY_THE_CALLER + text


def rule_key(likeness: str) -> str:
    """The key of what a rule takes for the same."""
    return _BY_A_RULE + likeness


def lock_name(key: str) -> str:
    """What writers queue for. Rules' keys share a few names: a thousand locks are no small thing.

    A likeness is hex digits, so there are 256 of them.
    """
    likeness = key.removeprefix(_BY_A_RULE)
    return f"dedup:{key}" if likeness == key else f"dedup:{_BY_A_RULE}{likeness[:2]}"


def live_keys(
    connection: Connection, occasion: Occasion, keys: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Of these keys those that are taken now, with what the first ones were answered."""
    wanted = sorted(set(keys))
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(wanted), IDS_PER_QUERY):
        query = select(dedup_keys.c.key, dedup_keys.c.outcome).where(
            dedup_keys.c.key.in_(wanted[start : start + IDS_PER_QUERY]),
            dedup_keys.c.expires_at > occasion.now,
        )
        for key, outcome in connection.execute(query):
            found[key] = msgspec.json.decode(outcome)
    return found


def take(connection: Connection, occasion: Occasion, taken: Sequence[Taken]) -> None:
    """Take keys that are free or have expired; some that have expired are forgotten with it."""
    if not taken:
        return
    for start in range(0, len(taken), IDS_PER_QUERY):
        some = [one.key for one in taken[start : start + IDS_PER_QUERY]]
        connection.execute(delete(dedup_keys).where(dedup_keys.c.key.in_(some)))
    # After its own: it waits for nobody, so of two that take keys none waits for the other's.
    _forget(connection, occasion, len(taken) + FORGOTTEN_BESIDE)
    connection.execute(insert(dedup_keys), [_row(occasion, one) for one in taken])


def _forget(connection: Connection, occasion: Occasion, most: int) -> None:
    """More go than come, so the table holds little besides what still counts."""
    expired = (
        select(dedup_keys.c.key)
        .where(dedup_keys.c.expires_at <= occasion.now)
        .order_by(dedup_keys.c.expires_at)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    connection.execute(delete(dedup_keys).where(dedup_keys.c.key.in_(expired)))


def _row(occasion: Occasion, one: Taken) -> dict[str, Any]:
    return {
        "key": one.key,
        "outcome": encode_text(one.first),
        "created_at": occasion.now,
        "expires_at": occasion.now + timedelta(seconds=one.ttl_s),
    }
