"""The core's rows of actions while a report is being applied: loaded and saved set-wise.

A node may hold its own action under an id that the core used for one of its own: the node refuses
the core's, and here they are two rows. `held` is the one that the node means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ARRAY, Select, Text, bindparam, column, func, select, true, tuple_
from sqlalchemy.engine import Connection

from agent.core.nodes.incoming import definition_text, shown_from
from agent.core.store.bulk import insert_all, update_all
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions
from agent.domain.definition import Definition, Owner
from agent.domain.instants import format_instant
from agent.domain.lifecycle import ExecutionStatus, is_final
from agent.wire.execution import Execution
from agent.wire.strict_json import encode_text


@dataclass(slots=True, kw_only=True)
class ActionRecord:
    """One row of `actions`; change it through the methods, then `save_records`."""

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
    service: str | None = None
    approval_state: str | None = None
    ended_at: datetime | None = None
    standing: str | None = None
    changed: bool = field(default=False, compare=False)
    redefined: bool = field(default=False, compare=False)
    """Also what lists are filtered by is another now (`_DEFINED`)."""
    recalled: bool = field(default=False, compare=False)
    """Its node has to be told (again): its approval was forgotten here, or its withdrawal there."""

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
        self.service = definition.service
        approval = definition.approval
        self.approval_state = None if approval is None else approval.state.value
        self.changed = self.redefined = True

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

    def stand(self, told: Mapping[str, Any], at: datetime) -> None:
        """Of a recurring action: how it stands, as its node said at that moment."""
        self.standing = encode_text({**told, "reported_at": format_instant(at)})
        self.changed = True

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


_OF_THE_RECORD = {"changed", "redefined", "recalled"}
_COLUMNS = [one.name for one in fields(ActionRecord) if one.name not in _OF_THE_RECORD]
_MUTABLE = [name for name in _COLUMNS if name not in {"agent_id", "id", "created_at"}]
# Nearly every report leaves these as they are, and each is in an index: SQLite writes an index
# anew for a column that is set, even to what it was.
_DEFINED = {
    "owner", "kind", "definition", "from_date", "wanted", "correlation_id", "recurring_id",
    "retry_of", "service", "approval_state",
}  # fmt: skip
_NEW = [name for name in _COLUMNS if name != "row"]  # the database numbers it
_REPORTED = [name for name in _MUTABLE if name not in _DEFINED]
# What is wanted travels as one value, so that it is one statement however much it is.
_WANTED = func.json_each(bindparam("wanted")).table_valued("value").c.value
_SELECT = select(*(actions.c[name] for name in _COLUMNS)).where(
    tuple_(actions.c.agent_id, actions.c.id).in_(
        select(func.json_extract(_WANTED, "$[0]"), func.json_extract(_WANTED, "$[1]"))
    )
)


def _each_by_its_index() -> Select[Any]:
    """The same where the planner guesses: it is not to read all actions of a node it thinks small.

    PostgreSQL knows little of tables that have just begun to grow; a subquery with an offset it
    does not take apart, so each id is one look into an index. Written as a range, the id is no
    reason to prefer the index of ids alone: a fleet's recurring action has one id on every node.
    """
    pairs = func.unnest(bindparam("agents", type_=ARRAY(Text)), bindparam("ids", type_=ARRAY(Text)))
    wanted = pairs.table_valued(
        column("agent_id", Text), column("id", Text), name="wanted"
    ).render_derived()
    one = (
        select(*(actions.c[name] for name in _COLUMNS))
        .where(
            actions.c.agent_id == wanted.c.agent_id,
            actions.c.id >= wanted.c.id,
            actions.c.id <= wanted.c.id,
        )
        .offset(0)
        .lateral("held")
    )
    return select(one).select_from(wanted).join(one, true())


_SELECT_EACH = _each_by_its_index()


def _find(connection: Connection, wanted: Sequence[tuple[str, str]]) -> Iterable[AnyRow]:
    if connection.dialect.name == "sqlite":
        return connection.execute(_SELECT, {"wanted": encode_text(wanted)})
    agent_ids, ids = zip(*wanted, strict=True)
    return connection.execute(_SELECT_EACH, {"agents": list(agent_ids), "ids": list(ids)})


def load_records(connection: Connection, wanted: Mapping[str, Iterable[str]]) -> dict[str, Records]:
    """Of each node, the rows with these ids."""
    loaded = {agent_id: Records(agent_id) for agent_id in wanted}
    pairs = [(agent_id, one) for agent_id, ids in wanted.items() for one in sorted(set(ids))]
    if pairs:
        for row in _find(connection, pairs):
            record = ActionRecord(**dict(zip(_COLUMNS, row, strict=True)))
            loaded[record.agent_id].put(record)
    return loaded


def save_records(connection: Connection, loaded: Iterable[Records]) -> None:
    """Write what changed."""
    changed = [record for records in loaded for record in records.changed()]
    fresh = [_values(record, _NEW) for record in changed if record.row is None]
    known = [record for record in changed if record.row is not None]
    insert_all(connection, actions, fresh)
    redefined = [_values(one, _MUTABLE) for one in known if one.redefined]
    reported = [_values(one, _REPORTED) for one in known if not one.redefined]
    update_all(connection, actions, "row", redefined)
    update_all(connection, actions, "row", reported)


class Records:
    """The actions of one node that its report is about."""

    def __init__(self, agent_id: str) -> None:
        self._agent_id = agent_id
        self._rows: dict[tuple[str, str], ActionRecord] = {}

    def put(self, record: ActionRecord) -> None:
        """A row as it is stored."""
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
        self.put(record)
        return record

    def give_to_core(self, record: ActionRecord) -> None:
        """A row known from reports alone turns out to be the core's (restored from a backup)."""
        del self._rows[record.id, record.owner]
        record.owner = Owner.CORE.value
        record.changed = record.redefined = True
        self._rows[record.id, record.owner] = record

    def recalled(self) -> list[str]:
        """Those that have to be delivered, in the order of their ids."""
        return sorted(record.id for record in self._rows.values() if record.recalled)

    def changed(self) -> list[ActionRecord]:
        """Those that are to be saved."""
        return [record for record in self._rows.values() if record.changed]


def _values(record: ActionRecord, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def execution_text(execution: Execution) -> str:
    """The execution as it is stored and shown: all members, null where there is nothing."""
    return encode_text(execution)
