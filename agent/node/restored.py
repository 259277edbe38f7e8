"""After a restore: what the runner's records know better than the database (DESIGN §9, P12).

A database from a backup believes in a past. Everything that was started since is on the runner's
files: those starts are written into the books first, and settled by the usual claims; nothing
starts before that. What no evidence can tell is called doubtful, counted, and shown.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from agent.domain.action import Action, Transition
from agent.domain.definition import LOST, Definition, OnRestart
from agent.domain.ending import RESTORED, decide_unknown
from agent.domain.errors import AgentError
from agent.domain.ids import RandomBits, new_mark
from agent.domain.instants import format_instant, from_us, maybe_format, parse_instant, to_us
from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.manifest import Terms
from agent.node.ledger import Ledger
from agent.node.ports import Hello, StartRecord
from agent.node.store import actions
from agent.node.store.meta import Meta, read_meta, write_meta
from agent.node.store.parking import DEFINITION_LOST
from agent.node.store.restoring import Restored

DOUBTFUL_SHOWN_MAX = 100
DUE_AT_ONCE = 500  # rows per transaction
UNKNOWN_KEPT_MAX = 10_000  # rows made from records; beyond, the oldest are only counted
ROWS_SKIPPED = 1_000_000  # numbers that the lost database may have given since, not given again
GENERATION_STEP = 1_000_000  # above every agentd that the lost database had seen
PUT_BACK = "the runner's records are newer than agent.db: a copy was put back by hand"
REMOVED = "agent.db was gone and there was no backup: begun empty, beside the runner's records"


@dataclass(slots=True)
class Findings:
    """What a look at the records found; kept in `meta.restored` for `status`."""

    starts: int = 0
    """Starts that the database did not know of."""
    unknown_actions: int = 0
    """Among them actions that it did not know at all."""
    unknown: deque[StartRecord] = field(default_factory=lambda: deque(maxlen=UNKNOWN_KEPT_MAX))
    """Their latest starts, to be given rows once all records are read."""
    unknown_ids: list[str] = field(default_factory=list)
    """Those that got rows: how they ended is known or will be, what they were to do is not."""
    doubtful: int = 0
    doubtful_ids: list[str] = field(default_factory=list)

    def doubt(self, ids: Iterable[str]) -> None:
        """Of these nobody can know what became of them."""
        for action_id in ids:
            self.doubtful += 1
            if len(self.doubtful_ids) < DOUBTFUL_SHOWN_MAX:
                self.doubtful_ids.append(action_id)


def note_restore(
    connection: sqlite3.Connection, restored: Restored, random_bits: RandomBits
) -> None:
    """In the restored database: what happened; and the core is owed everything as news."""
    meta, first_free = read_meta(connection), actions.next_row(connection)
    owed: dict[str, str | int] = {
        "state_owed": meta.state_owed + 1,
        "agent_epoch": new_mark(random_bits),
    }
    write_meta(
        connection,
        generation=meta.generation + GENERATION_STEP,
        restored=json.dumps(
            {
                "at": format_instant(restored.at),
                "why": restored.why,
                "source": restored.source,
                "made_at": maybe_format(restored.made_at),
                "covers": restored.covers,
                "aside": restored.aside,
                "passed_over": list(restored.passed_over),
                "pending": True,
                "first_free": first_free,
            }
        ),
        row_floor=first_free - 1 + ROWS_SKIPPED,
        **(owed if meta.enrolled else {}),
    )


def note_old_copy(connection: sqlite3.Connection, now: datetime) -> None:
    """The runner has been told of later things than this database: somebody put a copy back."""
    found = connection.execute("SELECT at FROM events ORDER BY seq DESC LIMIT 1").fetchone()
    begun_anew = found is None and actions.next_row(connection) == 1
    write_meta(
        connection,
        restored=json.dumps(
            {
                "at": format_instant(now),
                "why": REMOVED if begun_anew else PUT_BACK,
                "source": None,
                "made_at": format_instant(from_us(found["at"])) if found else None,
                "covers": False,
                "aside": None,
                "passed_over": [],
                "pending": True,
                "first_free": actions.next_row(connection),
            }
        ),
    )


def pending_restore(
    connection: sqlite3.Connection, hello: Hello, now: datetime, *, overtaken: bool
) -> dict[str, Any] | None:
    """What is known of a restore whose evidence has not been read yet, ours or somebody's."""
    found = _pending(read_meta(connection))
    if found is None and (overtaken or _knows_more(connection, hello)):
        note_old_copy(connection, now)
        found = _pending(read_meta(connection))
    if found is not None and hello.max_row >= actions.next_row(connection):
        write_meta(connection, row_floor=hello.max_row)  # what comes in meanwhile goes behind
    return found


def _pending(meta: Meta) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(meta.restored) if meta.restored else None
    return found if found and found.get("pending") else None


def _knows_more(connection: sqlite3.Connection, hello: Hello) -> bool:
    """Starts are committed before they are asked for: newer ones are of another database."""
    if hello.max_row >= actions.next_row(connection):
        return True
    for key in hello.running:
        action = actions.by_row(connection, key.row)
        if action is None or (action.definition.id == key.id and action.start_no < key.start_no):
            return True
    return False


def take_starts(
    connection: sqlite3.Connection, ledger: Ledger, records: Sequence[StartRecord],
    now: datetime, first_free: int, found: Findings,
) -> None:  # fmt: skip
    """Write starts that the runner has on file into the books, as STARTED: claims settle them.

    Rows from `first_free` on were given after the copy was made, to what it does not know.
    """
    newest: dict[int, StartRecord] = {}
    for record in records:
        known = newest.get(record.key.row)
        if known is None or known.key.start_no < record.key.start_no:
            newest[record.key.row] = record
    for record in newest.values():
        action = actions.by_row(connection, record.key.row)
        if action is None:
            if record.key.row >= first_free:
                found.unknown.append(record)
                found.unknown_actions += 1
        elif action.definition.id == record.key.id and not action.is_final:
            _catch_up(connection, ledger, action, record, now, found)


def insert_unknown(
    connection: sqlite3.Connection, ledger: Ledger, now: datetime,
    lane_of: Callable[[str], Lane], found: Findings,
) -> None:  # fmt: skip
    """Actions that only the runner remembers get their own rows back, without definitions."""
    newest = {record.key.row: record for record in found.unknown}
    for record in newest.values():
        if actions.by_id(connection, record.key.id) is None:
            found.starts += 1
            if len(found.unknown_ids) < DOUBTFUL_SHOWN_MAX:
                found.unknown_ids.append(record.key.id)
            action = _insert(connection, record, now, lane_of(record.kind))
            _move_to_started(connection, ledger, action, now)


def finish_evidence(
    connection: sqlite3.Connection, told: dict[str, Any], found: Findings, boot_id: str
) -> None:
    """All records are read, all doubts named: only now may anything start."""
    kept = {
        **{name: value for name, value in told.items() if name != "first_free"},
        "pending": False,
        "starts_found": found.starts,
        "unknown_actions": found.unknown_actions,
        "unknown_ids": found.unknown_ids,
        "doubtful": found.doubtful,
        "doubtful_ids": found.doubtful_ids,
    }
    write_meta(connection, restored=json.dumps(kept), boot_id=boot_id)


def doubt_unanswered(connection: sqlite3.Connection, ids: Sequence[str]) -> None:
    """The runner knows of these that they were started, and not how they ended."""
    told: dict[str, Any] = json.loads(read_meta(connection).restored)
    room = max(0, DOUBTFUL_SHOWN_MAX - len(told["doubtful_ids"]))
    told["doubtful"] += len(ids)
    told["doubtful_ids"] += ids[:room]
    write_meta(connection, restored=json.dumps(told))


def doubt_overdue(
    connection: sqlite3.Connection, ledger: Ledger, now: datetime, after_row: int,
    terms_of: Callable[[Action], Terms], found: Findings, *, absence_is_evidence: bool,
) -> int | None:  # fmt: skip
    """Name a batch of what should have started since the copy and has no record of it.

    It may have been cancelled or have ended without a start meanwhile. Where a record may be lost
    as well, it may even have run: then `on_restart = never` keeps it from running twice. Returns
    where to go on, None at the end.
    """
    rows = connection.execute(
        "SELECT row FROM actions WHERE execution_status = 'NULL' AND parked IS NULL"
        " AND due_at <= ? AND row > ? ORDER BY row LIMIT ?",
        (to_us(now), after_row, DUE_AT_ONCE),
    ).fetchall()
    for (row,) in rows:
        action = actions.by_row(connection, row)
        if action is None or action.parked is not None:
            continue
        found.doubt([action.definition.id])
        if absence_is_evidence or terms_of(action).on_restart is not OnRestart.NEVER:
            actions.update(connection, action, replace(action, verdict=RESTORED))
        else:
            _call_interrupted(connection, ledger, action, terms_of(action), now)
    return rows[-1][0] if len(rows) == DUE_AT_ONCE else None


def _catch_up(
    connection: sqlite3.Connection, ledger: Ledger, action: Action, record: StartRecord,
    now: datetime, found: Findings,
) -> None:  # fmt: skip
    if record.key.start_no <= action.start_no:
        return
    found.starts += 1
    before = replace(
        action,
        start_no=record.key.start_no - 1,
        attempt=record.attempt - 1,
        failures=max(action.failures, record.attempt - 1),
    )
    if action.execution_status is ExecutionStatus.STARTED:  # a later attempt of the same action
        later = replace(before, start_no=record.key.start_no, attempt=record.attempt)
        actions.update(connection, action, later)
        return
    actions.update(connection, action, before)
    _move_to_started(connection, ledger, before, now)


def _move_to_started(
    connection: sqlite3.Connection, ledger: Ledger, action: Action, now: datetime
) -> Action:
    start = Transition(
        to=ExecutionStatus.STARTED, reason=Reason.DUE, at=now, verdict=RESTORED,
        evidence={"verdict": RESTORED, "start_no": action.start_no + 1},
    )  # fmt: skip
    return ledger.move(connection, action, start)


def _call_interrupted(
    connection: sqlite3.Connection, ledger: Ledger, action: Action, terms: Terms, now: datetime
) -> None:
    """It must not run twice, and nobody can know that it did not run once."""
    started = _move_to_started(connection, ledger, action, now)
    unknown = decide_unknown(started, terms, now, {"verdict": RESTORED})
    ledger.move(connection, started, replace(unknown, verdict=RESTORED))


def _insert(
    connection: sqlite3.Connection, record: StartRecord, now: datetime, lane: Lane
) -> Action:
    """As it was before that start."""
    rule, nominal = _occurrence_of(connection, record.key.id, now)
    action = Action(
        row=record.key.row,
        definition=Definition(
            id=record.key.id,
            kind=record.kind,
            requires=(LOST,),
            recurring_id=rule,
            nominal_at=nominal,
        ),
        accepted_at=now,
        lane=lane,
        attempt=record.attempt - 1,
        start_no=record.key.start_no - 1,
        parked=DEFINITION_LOST,
    )
    actions.insert(connection, action)
    return action


def _occurrence_of(
    connection: sqlite3.Connection, action_id: str, now: datetime
) -> tuple[str | None, datetime | None]:
    """The recurring action of an occurrence; its watermark is raised to an instant that ran.

    It is looked at again at once: by what ran it may be over. One that the copy does not have at
    all gets its count when it is delivered again (agent.node.recalled).
    """
    rule, _, instant = action_id.rpartition("@")
    known = connection.execute("SELECT 1 FROM recurring WHERE id = ?", (rule,)).fetchone()
    if known is None:
        return None, None
    try:
        nominal = parse_instant(instant)
    except (ValueError, AgentError):
        return rule, None  # a backfill or a run by hand: no planned instant
    connection.execute(
        "UPDATE recurring SET last_nominal_at = max(coalesce(last_nominal_at, 0), ?),"
        " run_count = run_count + 1, next_at = CASE WHEN next_at IS NULL THEN NULL ELSE ? END"
        " WHERE id = ?",
        (to_us(nominal), to_us(now), rule),
    )
    return rule, nominal
