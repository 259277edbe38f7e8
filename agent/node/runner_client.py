"""The runner over its socket: requests by number, notices to a listener (docs/runner-protocol.md).

One connection, re-made by `connect`. Where it breaks, everything that waited for an answer gets
`RunnerAway`: the answer is then found by `claim`, never guessed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from agent.domain.ending import ExitRecord, RunState
from agent.domain.instants import from_unix, maybe_format, to_us
from agent.infra.unix_path import socket_address
from agent.node.ports import (
    Catalogue,
    Hello,
    OutputChunk,
    Progress,
    RunKey,
    RunnerAway,
    RunnerListener,
    RunnerOvertaken,
    RunnerRefused,
    RunnerReport,
    RunStatus,
    StartRecord,
    StartRequest,
)
from agent.node.runner_kinds import read_catalogue
from agent.wire import strict_json

PROTOCOLS = (1,)
"""Ours and the one before it: the runner may be of a neighbouring version during an upgrade."""
LINE_BYTES_MAX = 1024 * 1024  # an answer may carry a whole catalogue or 64 KiB of output as base64
ANSWER_S_MAX = 30.0
TAIL_BYTES = 4096
ITEMS_MAX = 5_000  # of one list in a request, to stay within a line
_NOT_NOW = {"unavailable": RunnerAway, "stale_generation": RunnerOvertaken}
"""Refusals that say nothing of the request: the runner stops, or listens to another agentd."""


class SocketRunner:
    """The runner port over a Unix socket; `ensure` starts a runner where that is ours to do."""

    def __init__(self, socket: Path, ensure: Callable[[], Awaitable[None]]) -> None:
        self._socket = socket
        self._ensure = ensure
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._asked: dict[int, tuple[str, float]] = {}
        """What was asked and until when it is waited for; in the order of asking."""
        self._watching: asyncio.TimerHandle | None = None
        self._unsent: list[bytes] = []
        self._number = 0
        self._reading: asyncio.Task[None] | None = None
        self._listener: RunnerListener | None = None

    async def connect(self, generation: int, listener: RunnerListener) -> Hello:
        """Reach the runner and say hello."""
        await self.close()
        await self._ensure()
        try:
            with socket_address(self._socket) as address:
                reader, self._writer = await asyncio.open_unix_connection(
                    address, limit=LINE_BYTES_MAX
                )
        except OSError as error:
            raise RunnerAway(f"no runner at {self._socket}: {error.strerror or error}") from None
        self._listener = listener
        self._reading = asyncio.ensure_future(self._read(reader))
        answer = await self._ask("hello", protocols=list(PROTOCOLS), generation=generation)
        if answer.get("protocol") not in PROTOCOLS:
            await self.close()
            raise RunnerAway(f"the runner answers in protocol {answer.get('protocol')}, not ours")
        return Hello(
            version=str(answer["version"]),
            pid=int(answer["pid"]),
            max_row=int(answer["max_row"]),
            features=tuple(answer.get("features", ())),
            scripts_dir=answer.get("scripts_dir", ""),
            containment=answer.get("containment", "attributed"),
            controllers=tuple(answer.get("controllers", ())),
            survivors=answer.get("survivors", 0),
            boot_id=str(answer.get("boot_id", "")),
            running=tuple(
                RunKey(run["row"], run["start_no"], run["id"]) for run in answer["running"]
            ),
        )

    async def close(self) -> None:
        """Leave without a word; the runner keeps what it has."""
        reading, self._reading = self._reading, None
        writer, self._writer = self._writer, None
        if reading is not None:
            reading.cancel()
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        if writer is not None:
            if self._unsent:
                writer.write(b"".join(self._unsent))
            writer.close()
        self._unsent = []
        self._fail_waiting("the connection was closed")

    async def start(self, request: StartRequest) -> RunStatus:
        """Start a run, once, however often it is asked."""
        answer = await self._ask(
            "start",
            **_key(request.key),
            attempt=request.attempt,
            kind=request.kind,
            payload=request.payload,
            metadata=request.metadata,
            app_names=list(request.app_names),
            from_date=maybe_format(request.from_date),
            to_date=maybe_format(request.to_date),
            correlation_id=request.correlation_id,
            rollback_reference=request.rollback_reference,
            dry_run=request.dry_run,
            timeout_s=request.timeout_s,
            grace_s=request.grace_s,
            stop_at=_unix(request.stop_at),
        )
        return _run_status(answer)

    async def claim(self, key: RunKey) -> RunStatus:
        """What became of a run; `NEVER_STARTED` also forbids it for ever."""
        return _run_status(await self._ask("claim", **_key(key)))

    async def stop(self, key: RunKey, cause: str, grace_s: float) -> RunState:
        """Begin to stop a run."""
        answer = await self._ask("stop", **_key(key), cause=cause, grace_s=grace_s)
        return RunState(answer["state"])

    async def set_deadline(self, key: RunKey, stop_at: datetime | None) -> None:
        """Move the end of a running run's window."""
        await self._ask("deadline", **_key(key), stop_at=_unix(stop_at))

    async def collected(self, keys: Sequence[RunKey]) -> None:
        """The final status of these is committed."""
        await self._ask("collected", items=[[key.row, key.start_no] for key in keys])

    async def forget(self, keys: Sequence[tuple[int, int]]) -> None:
        """Remove what is kept of these."""
        for begin in range(0, len(keys), ITEMS_MAX):
            group = keys[begin : begin + ITEMS_MAX]
            await self._ask("forget", items=[list(key) for key in group])

    async def records(
        self, after: tuple[int, int] | None
    ) -> tuple[Sequence[StartRecord], tuple[int, int] | None]:
        """A page of all starts on file."""
        answer = await self._ask("records", after=None if after is None else list(after))
        found = [
            StartRecord(
                key=RunKey(item["row"], item["start_no"], str(item["id"])),
                attempt=int(item.get("attempt") or 1),
                kind=str(item.get("kind") or "unknown"),
            )
            for item in answer["items"]
        ]
        following = answer.get("next")
        return found, None if following is None else (following[0], following[1])

    async def kinds(self, known: str | None) -> Catalogue | None:
        """The catalogue; None if it still has the digest `known`."""
        answer = await self._ask("kinds", known=known)
        return None if answer.get("unchanged") else read_catalogue(answer)

    async def output(self, key: RunKey, stream: str, offset: int, limit: int) -> OutputChunk:
        """Some of what a run wrote."""
        answer = await self._ask(
            "output", row=key.row, start_no=key.start_no, stream=stream, offset=offset, limit=limit
        )
        return OutputChunk(
            offset=answer["offset"],
            data=base64.b64decode(answer["data"]),
            next_offset=answer["next_offset"],
            total=answer["total"],
            done=answer["done"],
            pruned=answer.get("pruned", False),
        )

    async def report(self) -> RunnerReport:
        """How it stands: for the doctor, not for decisions."""
        answer = await self._ask("status")
        return RunnerReport(
            version=str(answer["version"]),
            pid=int(answer["pid"]),
            running=int(answer["running"]),
            uncollected=int(answer["uncollected"]),
            containment=answer.get("containment"),
            survivors=int(answer.get("survivors") or 0),
        )

    async def progress(self, keys: Sequence[RunKey]) -> Mapping[int, Progress]:
        """Latest progress by row."""
        answer = await self._ask("progress", items=[[key.row, key.start_no] for key in keys])
        return {
            item["row"]: Progress(percent=item.get("percent"), message=item.get("message"))
            for item in answer["items"]
        }

    async def leave(self) -> bool:
        """Ask a runner on which nothing runs to end; whether it does."""
        try:
            return bool((await self._ask("leave"))["leaving"])
        except RunnerRefused:  # one of before there was such a request
            return False

    async def _ask(self, operation: str, **members: Any) -> dict[str, Any]:
        writer = self._writer
        if writer is None or writer.is_closing():
            raise RunnerAway("there is no connection to the runner")
        self._number += 1
        number = self._number
        loop = asyncio.get_running_loop()
        future: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._waiting[number] = future
        self._asked[number] = operation, loop.time() + ANSWER_S_MAX
        self._send(strict_json.encode({"n": number, "op": operation, **members}) + b"\n", loop)
        try:
            answer = await future
        finally:
            self._waiting.pop(number, None)
            self._asked.pop(number, None)
        if not answer.get("ok"):
            code, message = str(answer.get("error")), str(answer.get("message"))
            if code in _NOT_NOW:
                raise _NOT_NOW[code](f"{code}: {message}")
            raise RunnerRefused(code, message)
        return answer

    def _send(self, line: bytes, loop: asyncio.AbstractEventLoop) -> None:
        """What is asked in one turn of the loop goes out as one write: a burst asks a lot."""
        if not self._unsent:
            loop.call_soon(self._flush)
        self._unsent.append(line)
        if self._watching is None:
            self._watching = loop.call_later(ANSWER_S_MAX, self._watch)

    def _flush(self) -> None:
        lines, self._unsent = self._unsent, []
        if self._writer is not None and lines:
            self._writer.write(b"".join(lines))

    def _watch(self) -> None:
        """One timer for all that is asked: a runner that is silent for too long is given up."""
        self._watching = None
        oldest = next(iter(self._asked.values()), None)
        if oldest is None:
            return
        operation, until = oldest
        loop = asyncio.get_running_loop()
        if loop.time() < until:
            self._watching = loop.call_at(until, self._watch)
        else:
            self._lose(f"the runner did not answer {operation} in {ANSWER_S_MAX} s")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._take(msgspec.json.decode(line))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # broken, or lines that are none of ours: told below, like one that was closed
        self._lose()

    def _take(self, message: dict[str, Any]) -> None:
        if "n" in message:
            future = self._waiting.get(message["n"])
            if future is not None and not future.done():
                future.set_result(message)
        elif message.get("event") == "exited" and self._listener is not None:
            key = RunKey(message["row"], message["start_no"], message["id"])
            record = read_record(message["record"], message.get("tail"))
            self._listener.run_exited(key, record)
        elif message.get("event") == "kinds" and self._listener is not None:
            self._listener.kinds_changed()
        elif message.get("event") == "survivors" and self._listener is not None:
            known = message.get("row") is not None
            of = RunKey(message["row"], message["start_no"], message["id"]) if known else None
            self._listener.survivors_found(of, message["count"])

    def _lose(self, why: str = "the connection was lost") -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.close()
        self._unsent = []
        self._fail_waiting(why)
        if self._listener is not None:
            self._listener.runner_lost()

    def _fail_waiting(self, why: str) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(RunnerAway(why))


def _key(key: RunKey) -> dict[str, Any]:
    return {"row": key.row, "start_no": key.start_no, "id": key.id}


def _unix(moment: datetime | None) -> float | None:
    return None if moment is None else to_us(moment) / 1_000_000


def _run_status(answer: Mapping[str, Any]) -> RunStatus:
    record = answer.get("record")
    started_at = answer.get("started_at")
    return RunStatus(
        state=RunState(answer["state"]),
        record=None if record is None else read_record(record, answer.get("tail")),
        started_at=None if started_at is None else from_unix(started_at),
        pid=answer.get("pid"),
    )


def read_record(record: Mapping[str, Any], tail: Mapping[str, str] | None) -> ExitRecord:
    """The runner's exit record as a domain value."""
    spawn_error = record.get("spawn_error")
    return ExitRecord(
        started_at=_instant(record.get("started_at")),
        ended_at=from_unix(record["ended_at"]),
        code=record.get("code"),
        signal=record.get("signal"),
        stop_cause=record.get("stop_cause", "none"),
        spawn_error=f"{spawn_error['code']}: {spawn_error['message']}" if spawn_error else None,
        survivors=record.get("survivors", 0),
        output=summarize_output(record.get("output") or {}, tail or {}),
        duration_s=record.get("duration_s"),
        limit=record.get("limit_exceeded"),
        stopped_at=_instant(record.get("stopped_at")),
        killed_at=_instant(record.get("killed_at")),
    )


def summarize_output(sizes: Mapping[str, Any], tail: Mapping[str, str]) -> dict[str, Any]:
    """Sizes, and the last bytes of what the script wrote: text, or base64 where it is not UTF-8."""
    summary: dict[str, Any] = {}
    for stream in ("stdout", "stderr"):
        size = sizes.get(stream)
        if not size or not size.get("bytes"):
            continue
        summary[stream] = {
            "bytes": size["bytes"],
            "truncated": size.get("kept_bytes", size["bytes"]) < size["bytes"],
        }
        data = _decoded(tail.get(stream, ""))
        if data:
            summary[stream] |= as_text_or_base64(data[-TAIL_BYTES // 2 :])
    return summary


def as_text_or_base64(data: bytes) -> dict[str, str]:
    """`{"tail": text}`, or `{"tail_base64": …}` where the bytes are no UTF-8."""
    try:
        return {"tail": _without_torn_start(data).decode("utf-8")}
    except UnicodeDecodeError:
        return {"tail_base64": base64.b64encode(data).decode()}


def _without_torn_start(data: bytes) -> bytes:
    """A tail may begin in the middle of a character: up to three continuation bytes are dropped."""
    start = 0
    while start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else from_unix(seconds)
