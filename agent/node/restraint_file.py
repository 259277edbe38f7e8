"""`restraints.json`: pauses and brakes, kept beside the database as well (decision 0012).

A database from a backup would start what somebody has forbidden since. So each change is written
here, after its commit and before it is answered, with the number that the database counts changes
by: a file with a higher number than the database's shows that the database is the older one.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.domain.brake import Brake
from agent.domain.errors import AgentError
from agent.domain.instants import parse_instant
from agent.domain.recurring import Recurring
from agent.node import log_events
from agent.node.ports import Store
from agent.node.store import brakes
from agent.node.store.backup import make_directory_durable
from agent.node.store.damage import StoreUnavailable
from agent.node.store.meta import Meta, read_meta, write_meta
from agent.wire.brake import encode_brake

FILE = "restraints.json"
FILE_BYTES_MAX = 16 * 1024 * 1024
PAUSES_KEPT_MAX = 10_000  # of recurring actions; the file is written anew at each change
REASON_KEPT_CHARS = 200
_PAUSE = ("paused", "paused_at", "paused_by", "pause_reason", "draining")


class Unusable(AgentError):
    """The file is not there, or cannot be believed; the message says which."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the file holds. `pauses` are those of recurring actions, by id."""

    number: int
    pause: dict[str, str | int]
    brakes: tuple[Brake, ...] = ()
    brake_no: int = 0
    pauses: dict[str, str] = field(default_factory=dict)


class RestraintFile:
    """Writes the file after each change, and gives an older database what it holds."""

    def __init__(self, *, store: Store, state_dir: Path, log: Any) -> None:
        self._store = store
        self._path = state_dir / FILE
        self._log = log
        self._one_at_a_time = asyncio.Lock()
        self._pauses: dict[str, str] = {}
        self.problem: str | None = None

    async def begin(self, *, restored: bool) -> None:
        """First of all in a life: whichever of file and database is newer has its way."""
        meta = await self._store.read(read_meta)
        try:
            found = await asyncio.to_thread(_read, self._path)
        except Unusable as error:
            if restored or meta.restraints_no:
                self._log.error(log_events.RESTRAINTS_LOST, error=str(error))
            if restored:
                lost = f"lost since that copy: {error}"
                await self._store.write(lambda c: _tell(c, lost))
            await self.keep()
            return
        if found.number > meta.restraints_no:
            await self._store.write(lambda c: _recall(c, found))
            self._log.warning(
                log_events.RESTRAINTS_RECALLED, paused=bool(found.pause["paused"]),
                brakes=len(found.brakes), rules=len(found.pauses),
            )  # fmt: skip
        current = await self._store.read(snapshot)
        self._pauses = current.pauses
        if current != found:
            await self.keep()

    async def keep(self) -> None:
        """Something changed and is committed. What cannot be written is told, and tried again."""
        async with self._one_at_a_time:
            try:
                await self._store.write(_count)
                current = await self._store.read(snapshot)
                await asyncio.to_thread(_write, self._path, current)
            except (OSError, StoreUnavailable) as error:
                self.problem = f"{FILE} could not be written: {error}"
                self._log.error(log_events.RESTRAINTS_NOT_KEPT, error=str(error))
                return
            self._pauses, self.problem = current.pauses, None

    async def keep_again(self) -> None:
        """Where it failed before."""
        if self.problem is not None:
            await self.keep()

    async def keep_pause(self, rule: Recurring) -> None:
        """The same for a recurring action, if its pause is not what the file says."""
        paused = rule.paused[:REASON_KEPT_CHARS] if rule.paused and not rule.ended_at else None
        if self._pauses.get(rule.id) != paused:
            await self.keep()


_AS_DEFINED = """UPDATE recurring SET paused = CASE WHEN json_valid(definition)
   AND json_extract(definition, '$.schedule.paused') THEN '' END WHERE ended_at IS NULL"""
"""Without this node's own pauses; '' stands for the one that the definition carries."""


def snapshot(connection: sqlite3.Connection) -> Kept:
    """As the database has it now."""
    meta = read_meta(connection)
    rows = connection.execute(
        "SELECT id, substr(paused, 1, ?) AS why FROM recurring"
        " WHERE paused > '' AND ended_at IS NULL LIMIT ?",  # '' is its owner's pause, not ours
        (REASON_KEPT_CHARS, PAUSES_KEPT_MAX),
    )
    owed: dict[str, str] = json.loads(meta.pauses_owed) if meta.pauses_owed else {}
    return Kept(
        number=meta.restraints_no,
        pause=_pause_of(meta),
        brakes=tuple(brakes.active(connection, None)),
        brake_no=meta.brake_no,
        pauses=owed | {row["id"]: row["why"] for row in rows},
    )


def _pause_of(meta: Meta) -> dict[str, str | int]:
    return {name: getattr(meta, name) for name in _PAUSE}


def _count(connection: sqlite3.Connection) -> None:
    write_meta(connection, restraints_no=read_meta(connection).restraints_no + 1)


def _recall(connection: sqlite3.Connection, kept: Kept) -> None:
    """Make the database say what the file says."""
    brake_no = max(kept.brake_no, read_meta(connection).brake_no)
    known = {brake.id for brake in brakes.active(connection, None)}
    for number in known - {brake.id for brake in kept.brakes}:
        brakes.lift(connection, number)
    for brake in kept.brakes:
        if brake.id not in known:
            brakes.put_back(connection, brake)
    here = {row["id"] for row in connection.execute("SELECT id FROM recurring").fetchall()}
    connection.execute(_AS_DEFINED)
    for rule_id in here & kept.pauses.keys():
        connection.execute(
            "UPDATE recurring SET paused = ? WHERE id = ? AND ended_at IS NULL",
            (kept.pauses[rule_id], rule_id),
        )
    owed = {rule_id: why for rule_id, why in kept.pauses.items() if rule_id not in here}
    write_meta(
        connection, restraints_no=kept.number, brake_no=brake_no, **kept.pause,
        pauses_owed=json.dumps(owed) if owed else "",
    )  # fmt: skip
    _tell(connection, "as they were set last")


def _tell(connection: sqlite3.Connection, text: str) -> None:
    """In what is told of the restore: what became of pauses and brakes."""
    told = read_meta(connection).restored
    if told:
        write_meta(connection, restored=json.dumps(json.loads(told) | {"restraints": text}))


def _read(path: Path) -> Kept:
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(FILE_BYTES_MAX))
        return Kept(
            number=int(document["number"]),
            pause={name: type(getattr(Meta(), name))(document["pause"][name]) for name in _PAUSE},
            brakes=tuple(_brake(one) for one in document["brakes"]),
            brake_no=int(document["brake_no"]),
            pauses={str(rule): str(why) for rule, why in document["recurring"].items()},
        )
    except FileNotFoundError:
        raise Unusable(f"{FILE} is not there") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AgentError) as error:
        raise Unusable(f"{FILE} cannot be read: {error!r}") from error


def _brake(document: dict[str, Any]) -> Brake:
    expires_at = document["expires_at"]
    return Brake(
        id=int(document["id"]),
        kind=document["kind"],
        labels={str(key): str(value) for key, value in document["labels"].items()},
        reason=str(document["reason"]),
        by=str(document["by"]),
        created_at=parse_instant(document["created_at"]),
        expires_at=None if expires_at is None else parse_instant(expires_at),
        elapses=bool(document["elapses"]),
        freeze=document.get("freeze"),  # absent from files of older versions
    )


def _write(path: Path, kept: Kept) -> None:
    """Whole or not at all, also through a power cut."""
    document = {
        "number": kept.number, "pause": kept.pause, "brake_no": kept.brake_no,
        "brakes": [
            encode_brake(brake) | {"elapses": brake.elapses} for brake in kept.brakes
        ],
        "recurring": kept.pauses,
    }  # fmt: skip
    part = path.with_name(f"{path.name}.part")
    with suppress(FileNotFoundError):
        part.unlink()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, ensure_ascii=True)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    make_directory_durable(path.parent)
