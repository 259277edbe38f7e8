"""A brake as JSON: what the API takes, and what status, answers and the node report show."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from agent.domain.brake import LABELS_MAX, REASON_CHARS_MAX, Brake
from agent.domain.errors import Fault, InvalidDocument, shown
from agent.domain.instants import format_instant, maybe_format
from agent.wire.fields import Field, instant, kind, number, read_fields, text, text_map

FOR_S_MIN = 1.0
FOR_S_MAX = 10 * 366 * 86_400.0  # longer is "until it is lifted", which is said by giving none
LABEL_CHARS_MAX = 256

FIELDS: Mapping[str, Field] = {
    "kind": Field(kind),
    "labels": Field(text_map(LABELS_MAX, LABEL_CHARS_MAX)),
    "for_s": Field(number(FOR_S_MIN, FOR_S_MAX)),
    "until": Field(instant),
    "reason": Field(text(REASON_CHARS_MAX), required=True),
}


def decode_brake(document: Any, now: datetime) -> dict[str, Any]:
    """The members `kind`, `labels`, `reason`, `expires_at` and `elapses` of a new brake.

    Raises `InvalidDocument` with every fault.
    """
    if not isinstance(document, dict):
        raise InvalidDocument([Fault("", f"must be an object, not {shown(document)}")])
    values, faults = read_fields(document, FIELDS)
    faults += [
        Fault(name[:LABEL_CHARS_MAX], f"is not known here; known are {', '.join(FIELDS)}")
        for name in document
        if name not in FIELDS
    ]
    if not document.get("kind") and not document.get("labels"):
        faults.append(Fault("kind", "is missing: give kind, or labels, or both"))
    if not values.get("reason", "-").strip():
        faults.append(Fault("reason", "is empty; whoever is held up wants to know why"))
    if "for_s" in values and "until" in values:
        faults.append(Fault("until", "is given beside for_s; one of the two says when it ends"))
    expires_at = values.get("until")
    if expires_at is not None and expires_at <= now:
        text_ = f"{format_instant(expires_at)} has passed (it is {format_instant(now)} here)"
        faults.append(Fault("until", text_))
    if faults:
        raise InvalidDocument(faults)
    if "for_s" in values:
        expires_at = now + timedelta(seconds=values["for_s"])
    return {
        "kind": values.get("kind"),
        "labels": values.get("labels", {}),
        "reason": values["reason"].strip(),
        "expires_at": expires_at,
        "elapses": "for_s" in values,
    }


def encode_brake(brake: Brake) -> dict[str, Any]:
    """As everybody sees it."""
    return {
        "id": brake.id,
        "kind": brake.kind,
        "labels": dict(brake.labels),
        "reason": brake.reason,
        "by": brake.by,
        "created_at": format_instant(brake.created_at),
        "expires_at": maybe_format(brake.expires_at),
        "freeze": brake.freeze,
    }
