"""A freeze of the core's, held here as a brake of this node's: durable, offline, with its reason.

The node's owner sees it beside the other brakes and has the last word: it can be lifted here, and
the core learns of that from the next report. Whatever was asked twice is done once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agent.domain.brake import FREEZES_MAX, REASON_CHARS_MAX
from agent.domain.clock_doubt import Moment
from agent.domain.errors import Fault, InvalidDocument
from agent.node.store import brakes
from agent.wire.fields import Field, instant, kind, read_fields, text
from agent.wire.messages import Request

BY_CHARS_MAX = 200
_ID = Field(text(128), required=True)
_FREEZE: Mapping[str, Field] = {"freeze": _ID, "kind": Field(kind), "expires_at": Field(instant)}
_THAW: Mapping[str, Field] = {"freeze": _ID}


def apply_freeze(
    connection: sqlite3.Connection, request: Request, now: datetime, moment: Moment
) -> bool:
    """Hold; True if that is new. Raises `InvalidDocument` with why it cannot be."""
    values = _read(request, _FREEZE)
    held = [brake for brake in brakes.active(connection, None) if brake.freeze is not None]
    expires_at: datetime | None = values.get("expires_at")
    has_passed = expires_at is not None and expires_at <= moment.at and not moment.doubted
    if has_passed or any(brake.freeze == values["freeze"] for brake in held):
        return False
    if len(held) >= FREEZES_MAX:
        text_ = f"there are {FREEZES_MAX} freezes on this node already; thaw some of them first"
        raise InvalidDocument([Fault("freeze", text_)])
    made = {
        "kind": values.get("kind"),
        "labels": {},
        "reason": (request.reason or "")[:REASON_CHARS_MAX],
        "by": f"core:{request.by or 'core'}"[:BY_CHARS_MAX],
        "expires_at": expires_at,
        "freeze": values["freeze"],
    }
    brakes.insert(connection, made, now)
    return True


def apply_thaw(connection: sqlite3.Connection, request: Request) -> bool:
    """Let go; True if it was held. Raises `InvalidDocument`."""
    values = _read(request, _THAW)
    found = [brake for brake in brakes.active(connection, None) if brake.freeze == values["freeze"]]
    for brake in found:
        brakes.lift(connection, brake.id)
    return bool(found)


def _read(request: Request, fields: Mapping[str, Field]) -> dict[str, Any]:
    values, faults = read_fields(request.args or {}, fields, "args")
    if faults:
        raise InvalidDocument(faults)
    return values
