"""The core's rows of actions while a report is being applied: loaded and saved set-wise.

A node may hold its own action under an id that the core used for one of its own: the node refuses
the core's, and here they are two rows. `held` is the one that the node means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.engine import Connection

from agent.core.nodes.incoming import definition_text, shown_from
from agent.core.store.schema import actions
from agent.domain.definition import Definition, Owner
from agent.domain.instants import maybe_format
from agent.domain.lifecycle import ExecutionStatus, is_final
from agent.wire.execution import Execution
from agent.wire.strict_json import encode_text


@dataclass(slots=True, kw_only=True)
class ActionRecord:
    """One row of `actions`; change it through the methods, then `save`."""

    row: int | None
    agent_id: str
    id: str
    owner: str
    created_at: datetime
    kind: str = ""
    revision: int = 1
    definition: str | None = None
    from_date: datetime | None = None
    wanted: bool = True
    status: str = ExecutionStatus.NULL.value
    reason: str | None = None
    attempt: int = 0
    execution: str | None = None
    status_seq: int = 0
    revision_applied: int | None = None
    refused: str | None = None
    requested: str | None = None
    lost_at: datetime | None = None
    lost_reason: str | None = None
    snapshot: str | None = None
    correlation_id: str | None = None
    recurring_id: str | None = None
    retry_of: str | None = None
    approval_state: str | None = None
    ended_at: datetime | None = None
    changed: bool = field(default=False, compare=False)

    @property
    def is_final(self) -> bool:
        """Whether the execution will not change any more."""
        return is_final(ExecutionStatus(self.status))

    def define(self, definition: Definition) -> None:
        """Take a definition over."""
        self.kind = definition.kind
        self.revision = definition.revision
        self.definition = definition_text(definition)
        self.from_date = shown_from(definition)
        self.wanted = definition.should_be_executed
        self.correlation_id = definition.correlation_id
        self.recurring_id = definition.recurring_id
        self.retry_of = definition.retry_of
        approval = definition.approval
        self.approval_state = None if approval is None else approval.state.value
        self.changed = True

    def execute(self, execution: Execution, now: datetime) -> None:
        """Take an execution over, whole. A final status absorbs it."""
        if self.is_final:
            return
        self.status = execution.execution_status.value
        self.reason = execution.reason
        self.attempt = execution.attempt
        self.execution = execution_text(execution)
        self.changed = True
        if self.is_final:
            self.requested = None  # whatever was asked, this is how it ended
            self.ended_at = now

    def applied(self, revision: int) -> None:
        """The node has this revision, or a newer one."""
        # Only a core from a backup meets a revision that it did not make: the next must be higher,
        # or the node takes it for an old one.
        self.revision = max(self.revision, revision)
        self.revision_applied = revision
        self.refused = None
        self._settle(revision)
        self.changed = True

    def refuse(self, revision: int, faults: Sequence[Any]) -> None:
        """The node did not take this revision."""
        self.refused = encode_text({"revision": revision, "faults": faults})
        self._settle(revision)
        self.changed = True

    def _settle(self, revision: int) -> None:
        if self.requested is None:
            return
        asked = msgspec.json.decode(self.requested)
        if asked.get("revision") is not None and revision >= asked["revision"]:
            self.requested = None


_COLUMNS = [one.name for one in fields(ActionRecord) if one.name != "changed"]
_MUTABLE = [name for name in _COLUMNS if name not in {"row", "agent_id", "id", "created_at"}]
_SELECT = select(*(actions.c[name] for name in _COLUMNS)).where(
    actions.c.agent_id == bindparam("agent"),
    actions.c.id.in_(bindparam("ids", expanding=True)),
)
_UPDATE = (
    update(actions)
    .where(actions.c.row == bindparam("b_row"))
    .values({name: bindparam(f"b_{name}") for name in _MUTABLE})
)


class Records:
    """The actions that one report is about."""

    def __init__(self, connection: Connection, agent_id: str, ids: Iterable[str]) -> None:
        self._connection = connection
        self._agent_id = agent_id
        self._rows: dict[tuple[str, str], ActionRecord] = {}
        wanted = sorted(set(ids))
        if wanted:
            found = connection.execute(_SELECT, {"agent": agent_id, "ids": wanted})
            for row in found:
                record = ActionRecord(**row._asdict())
                self._rows[record.id, record.owner] = record

    def owned(self, action_id: str, owner: Owner) -> ActionRecord | None:
        """The row of that owner."""
        return self._rows.get((action_id, owner.value))

    def held(self, action_id: str) -> ActionRecord | None:
        """The row that a report of the node is about."""
        return self.owned(action_id, Owner.NODE) or self.owned(action_id, Owner.CORE)

    def add(self, action_id: str, owner: Owner, now: datetime) -> ActionRecord:
        """A row that was not known: seen on the node first."""
        record = ActionRecord(
            row=None,
            agent_id=self._agent_id,
            id=action_id,
            owner=owner.value,
            created_at=now,
            changed=True,
        )
        self._rows[action_id, owner.value] = record
        return record

    def give_to_core(self, record: ActionRecord) -> None:
        """A row known from reports alone turns out to be the core's (restored from a backup)."""
        del self._rows[record.id, record.owner]
        record.owner = Owner.CORE.value
        record.changed = True
        self._rows[record.id, record.owner] = record

    def save(self) -> set[str]:
        """Write what changed; returns the ids."""
        changed = [record for record in self._rows.values() if record.changed]
        fresh = [_values(record) for record in changed if record.row is None]
        known = [record for record in changed if record.row is not None]
        if fresh:
            for values in fresh:
                del values["row"]
            self._connection.execute(insert(actions), fresh)
        if known:
            self._connection.execute(
                _UPDATE,
                [
                    {f"b_{name}": getattr(record, name) for name in ("row", *_MUTABLE)}
                    for record in known
                ],
            )
        return {record.id for record in changed}


def _values(record: ActionRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _COLUMNS}


def execution_text(execution: Execution) -> str:
    """The execution as it is stored and shown: all members, null where there is nothing."""
    return encode_text(
        {
            "execution_status": execution.execution_status.value,
            "reason": execution.reason,
            "attempt": execution.attempt,
            "started_at": maybe_format(execution.started_at),
            "ended_at": maybe_format(execution.ended_at),
            "exit_code": execution.exit_code,
            "signal": execution.signal,
            "error": execution.error,
            "verdict": execution.verdict,
            "output": execution.output,
            "missed": execution.missed,
        }
    )
