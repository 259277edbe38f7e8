"""Short ways to domain values for tests: everything has a plain default."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from agent.domain.action import Action
from agent.domain.definition import Definition
from agent.domain.ending import ExitRecord

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def make_definition(**fields: Any) -> Definition:
    values: dict[str, Any] = {"id": "a1", "kind": "sleep"} | fields
    return Definition(**values)


def make_action(**fields: Any) -> Action:
    own = {k: fields.pop(k) for k in list(fields) if k in Action.__dataclass_fields__}
    definition = own.pop("definition", None) or make_definition(**fields)
    values: dict[str, Any] = {"row": 1, "accepted_at": NOW, "due_at": NOW} | own
    return Action(definition=definition, **values)


def make_record(**fields: Any) -> ExitRecord:
    values: dict[str, Any] = {"started_at": NOW, "ended_at": after(1), "code": 0} | fields
    return ExitRecord(**values)
