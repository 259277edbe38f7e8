"""The audit log: every change that somebody asked for, append-only, each row sealed to the last.

`record` is called inside the transaction of the change itself, as its last step (the chain is one
queue for everybody, so it is held as shortly as possible).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from agent.core.occasion import Occasion
from agent.core.store.bulk import insert_all
from agent.core.store.locks import serialize
from agent.core.store.schema import audit
from agent.domain.instants import to_us
from agent.wire.strict_json import encode_text

GENESIS = "0" * 64
_NEWEST = select(audit.c.hash).order_by(audit.c.row.desc()).limit(1)  # built once: a hot path
Line = tuple[str, Mapping[str, Any]]
"""What was changed, and what there is to say of it."""


def record(
    connection: Connection,
    occasion: Occasion,
    who: str,
    what: str,
    target: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Append one line: `who` did `what` to `target`. Secrets and payloads stay out of `detail`."""
    record_all(connection, occasion, who, what, [(target, detail or {})])


def record_all(
    connection: Connection, occasion: Occasion, who: str, what: str, lines: Sequence[Line]
) -> None:
    """`record` for many targets: a line each, in order, behind one look at the chain's end."""
    if not lines:
        return
    serialize(connection, "audit")
    prev = connection.execute(_NEWEST).scalar() or GENESIS
    rows = []
    for target, detail in lines:
        text = encode_text(detail)
        row = {
            "at": occasion.now,
            "who": who,
            "what": what,
            "target": target,
            "detail": text,
            "prev": prev,
            "hash": seal(prev, to_us(occasion.now), who, what, target, text),
        }
        rows.append(row)
        prev = row["hash"]
    insert_all(connection, audit, rows)


def seal(prev: str, at_us: int, who: str, what: str, target: str, detail: str) -> str:
    """The hash of one line: SHA-256 over the JSON list of its members, the previous hash first."""
    line = encode_text([prev, at_us, who, what, target, detail])
    return hashlib.sha256(line.encode()).hexdigest()
