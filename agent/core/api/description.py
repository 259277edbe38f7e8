"""The core's API as an OpenAPI 3.1 document: every ground's tables, put together.

One line per ground in `_GROUNDS`; two that name a schema alike are a mistake and refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from agent.core.api.described import (
    access,
    approvals,
    dispatch,
    events,
    fleet,
    node_protocol,
    recurring,
    rules,
    service,
    shared,
)
from agent.infra import openapi
from agent.infra.openapi import House, Operation, Schema

_GROUNDS: tuple[ModuleType, ...] = (
    service,
    dispatch,
    approvals,
    recurring,
    fleet,
    events,
    access,
    rules,
    node_protocol,
)

OPERATIONS: tuple[Operation, ...] = tuple(one for ground in _GROUNDS for one in ground.OPERATIONS)

_ANYWHERE = ((400, "bad_request"), (422, "invalid"), (503, "busy"), (503, "unavailable"))
_WITH_BODY = ((400, "not_json"), (413, "too_large"))
HOUSE = House(
    everywhere=_ANYWHERE,
    with_body=_WITH_BODY,
    schemes={
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "An operator's API token; its role decides (`x-role`).",
        },
        "credential": {
            "type": "http",
            "scheme": "bearer",
            "description": "What enrolment gave to one node, for its own paths.",
        },
    },
)


def all_schemas() -> Mapping[str, Schema]:
    """Every named schema. Raises ValueError where two grounds mean different ones by a name."""
    found: dict[str, Schema] = dict(shared.SCHEMAS)
    for ground in _GROUNDS:
        for name, schema in ground.SCHEMAS.items():
            if found.setdefault(name, schema) != schema:
                raise ValueError(f"{ground.__name__} describes {name} otherwise than another")
    return found


def describe_core() -> dict[str, Any]:
    """The whole document."""
    return openapi.describe_api(
        "The core",
        "Decides what runs where, and remembers what did. Bodies are strict JSON; unknown query "
        "parameters are refused; every error has one shape.",
        OPERATIONS,
        all_schemas(),
        HOUSE,
    )
