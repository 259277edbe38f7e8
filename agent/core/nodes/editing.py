"""What operators set of a node: labels of the core's own, and where its API can be reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import update
from sqlalchemy.engine import Connection

from agent.core.nodes import freezes
from agent.core.nodes.admission import locked_agent_row
from agent.core.nodes.labelling import own_labels, relabel, reported_labels
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.recurring.membership import reconcile_node
from agent.core.store.locks import share
from agent.core.store.schema import agents
from agent.domain.errors import Fault, InvalidDocument, Refused, shown
from agent.domain.labels import LABELS_PER_NODE_MAX, require_label_key, require_label_value
from agent.wire.fields import Field, nearest, text
from agent.wire.strict_json import encode_text

URL_CHARS_MAX = 512
TOKEN_CHARS_MAX = 512
_KNOWN = ("labels", "api_url", "api_token")


def read_edit(document: Any) -> dict[str, Any]:
    """The members that were given; None takes one back. Raises `InvalidDocument`."""
    if not isinstance(document, dict):
        raise InvalidDocument([Fault("", f"must be an object, not {shown(document)}")])
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, raw in document.items():
        if name not in _KNOWN:
            faults.append(Fault(name[:64], f"is not known here{nearest(name, _KNOWN)}"))
            continue
        try:
            values[name] = _READERS[name].read(raw)
        except InvalidDocument as error:
            faults += error.faults
        except ValueError as error:
            faults.append(Fault(name, str(error)))
    if not document:
        faults.append(Fault("", f"says nothing; give one of {', '.join(_KNOWN)}"))
    if faults:
        raise InvalidDocument(faults)
    return values


def _label_edits(raw: Any) -> dict[str, str | None]:
    if not isinstance(raw, dict):
        raise ValueError(f"must be an object of texts, or null to take one back, not {shown(raw)}")
    faults = []
    for key, value in raw.items():
        try:
            require_label_key(key)
            if value is not None:
                require_label_value(value)
        except ValueError as error:
            faults.append(Fault(f"labels.{key[:64]}", str(error)))
    if faults:
        raise InvalidDocument(faults)
    return dict(raw)


def _url(raw: Any) -> str | None:
    if raw is None:
        return None
    given: str = text(URL_CHARS_MAX)(raw).rstrip("/")
    try:
        parts = urlsplit(given)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or "@" in parts.netloc or parts.query or parts.fragment or not given.isprintable():
        raise ValueError(f"{shown(raw)} is not a URL such as https://node.example:8443")
    return given


def _token(raw: Any) -> str | None:
    if raw is None:
        return None
    given: str = text(TOKEN_CHARS_MAX)(raw)
    if not given or not given.isascii() or not given.isprintable() or " " in given:
        raise ValueError("is not a token (see api.token in the node's state directory)")
    return given


_READERS: Mapping[str, Field] = {
    "labels": Field(_label_edits),
    "api_url": Field(_url),
    "api_token": Field(_token),
}


def edit(
    connection: Connection, occasion: Occasion, agent_id: str, edits: Mapping[str, Any], by: str
) -> bool:
    """Set them; True if the node is to be woken. Raises `NotFound`, `Refused`."""
    share(connection, freezes.LOCK)
    agent = locked_agent_row(connection, agent_id)
    if agent.decommissioned_at is not None:
        raise Refused("decommissioned", f"the node {agent_id!r} was taken out of service")
    is_told = False
    columns = {name: edits[name] for name in ("api_url", "api_token") if name in edits}
    changed: dict[str, str | None] = {}
    if "labels" in edits:
        own = {**own_labels(agent.own_labels), **edits["labels"]}
        kept = {key: value for key, value in own.items() if value is not None}
        if len(kept) > LABELS_PER_NODE_MAX:
            text_ = f"makes {len(kept)} labels; at most {LABELS_PER_NODE_MAX} are kept of a node"
            raise InvalidDocument([Fault("labels", text_)])
        columns["own_labels"] = encode_text(kept)
        changed = relabel(connection, occasion, agent_id, reported_labels(agent.report) | kept)
    connection.execute(update(agents).where(agents.c.id == agent_id).values(**columns))
    if changed:
        is_told = freezes.reconcile(connection, occasion, agent_id)
        reconcile_node(connection, occasion, agent_id)
    detail = {name: edits[name] for name in ("labels", "api_url") if name in edits}
    if "api_token" in edits:
        detail["api_token"] = "set" if edits["api_token"] else None
    audit.record(connection, occasion, by, "agent_edit", agent_id, detail)
    return is_told
