"""From a line to its answer: who may ask now, which request it is, what the runs say to it.

Each request has one method of its own name below. Faults become answers here, and only here.
"""

from __future__ import annotations

import os
import time
from binascii import b2a_base64
from typing import Any

from agent.runner import messages, progress
from agent.runner.limits import LINE_BYTES_MAX, PROTOCOLS, VERSION
from agent.runner.messages import BadRequest, key_of
from agent.runner.names import BOTH, MARKS, STREAMS, Key
from agent.runner.output_reading import Extent, extents_on_disk, read_both, read_piece
from agent.runner.run import running_summary
from agent.runner.supervisor import Conflict, Unavailable, UnknownRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.runner.catalogue import Catalogue
    from agent.runner.cgroups import Cgroups
    from agent.runner.connection import Connection
    from agent.runner.generation import Generation
    from agent.runner.journal import Journal
    from agent.runner.ledger import Ledger
    from agent.runner.run import Run
    from agent.runner.server import Server
    from agent.runner.supervisor import Supervisor

FEATURES = (
    "records", "leftovers", "dry_run", "stop_at", "progress", "output_both", "kinds_notice",
    "leave", "user", "limits", "survivors_notice",
)  # fmt: skip


class StaleGeneration(Exception):
    """A newer agentd has been here."""


def encode_base64(data: bytes) -> str:
    """Base64 without a line break."""
    return b2a_base64(data, newline=False).decode()


class Answering:
    """Answers the requests of all connections."""

    server: Server

    def __init__(
        self,
        supervisor: Supervisor,
        catalogue: Catalogue,
        ledger: Ledger,
        generation: Generation,
        journal: Journal,
        parallel_max: int,
        cgroups: Cgroups | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._catalogue = catalogue
        self._ledger = ledger
        self._generation = generation
        self._journal = journal
        self._parallel_max = parallel_max
        self._cgroups = cgroups
        self.on_greeted: Callable[[], None] = lambda: None
        self.ask_to_leave: Callable[[], bool] = lambda: False
        self._started_at = round(time.time(), 3)
        supervisor.on_exited = self._tell_exited
        supervisor.ending.on_survivors = self._tell_survivors

    def answer_line(self, connection: Connection, line: bytes) -> None:
        """Answer one request, whatever it is."""
        number = None
        try:
            if len(line) > LINE_BYTES_MAX:
                raise BadRequest(f"{len(line)} bytes in a line; at most {LINE_BYTES_MAX} are read")
            request = messages.decode_line(line)
            number = request.get("n")
            if type(number) is not int or number < 0:
                number = None
                raise BadRequest("n must be an integer from 0")
            connection.send({"n": number, "ok": True, **self._answer(connection, request)})
        except BadRequest as error:
            name = "too_large" if len(line) > LINE_BYTES_MAX else "bad_request"
            _refuse(connection, number, name, error)
        except StaleGeneration as error:
            _refuse(connection, number, "stale_generation", error)
        except Conflict as error:
            _refuse(connection, number, "conflict", error)
        except UnknownRun as error:
            _refuse(connection, number, "unknown_run", error)
        except Unavailable as error:
            _refuse(connection, number, "unavailable", error)
        except OSError as error:  # of one request: the disk, or descriptors; the others go on
            self._journal.write("request_failed", error=str(error))
            _refuse(connection, number, "unavailable", error)
        except Exception as error:  # noqa: BLE001 - our fault: the running scripts must not pay
            self._journal.write("bug", error=repr(error)[:500], where=_where(error))
            _refuse(connection, number, "unavailable", error)

    def _answer(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        name = request.get("op")
        if not isinstance(name, str) or name not in messages.REQUESTS:
            known = ", ".join(messages.REQUESTS)
            raise BadRequest(f"op {str(name)[:80]!r} is unknown; known are {known}")
        if name != "hello":
            if connection.generation is None:
                raise BadRequest(f"{name} before hello; say hello first")
            self._check_generation(connection.generation)
        values = messages.check_members(name, request)
        if name == "hello":
            return self._hello(connection, values)
        answer: dict[str, Any] = getattr(self, f"_{name}")(values)
        return answer

    def _check_generation(self, generation: int) -> None:
        if generation < self._generation.current:
            current = self._generation.current
            raise StaleGeneration(f"generation {generation} was overtaken by {current}")

    # -- requests ---------------------------------------------------------------------------

    def _hello(self, connection: Connection, values: dict[str, Any]) -> dict[str, Any]:
        spoken = set(values["protocols"]) & set(PROTOCOLS)
        if not spoken:
            known = " and ".join(map(str, PROTOCOLS))
            raise BadRequest(
                f"protocols {values['protocols']}: this runner {VERSION} speaks {known}; "
                "agentd and agent-runner must be of neighbouring versions"
            )
        self._check_generation(values["generation"])
        self._generation.raise_to(values["generation"])
        connection.generation = values["generation"]
        self.server.set_newest(connection)
        self.on_greeted()
        return {
            "protocol": max(spoken), "version": VERSION, "pid": os.getpid(),
            "boot_id": self._supervisor.boot_id, "max_row": self._ledger.max_row,
            "parallel_max": self._parallel_max, "features": list(FEATURES),
            "scripts_dir": self._catalogue.path, **self._containment(),
            "running": [running_summary(run) for run in self._supervisor.running.values()],
        }  # fmt: skip

    def _start(self, values: dict[str, Any]) -> dict[str, Any]:
        return self._supervisor.start(key_of(values), values, self._generation.current)

    def _claim(self, values: dict[str, Any]) -> dict[str, Any]:
        return self._supervisor.claim(key_of(values), values["id"], self._generation.current)

    def _stop(self, values: dict[str, Any]) -> dict[str, Any]:
        return self._supervisor.stop(
            key_of(values), values["id"], values["cause"], values["grace_s"]
        )

    def _deadline(self, values: dict[str, Any]) -> dict[str, Any]:
        return self._supervisor.move_window(key_of(values), values["id"], values["stop_at"])

    def _collected(self, values: dict[str, Any]) -> dict[str, Any]:
        self._supervisor.collected([Key(*item) for item in values["items"]])
        return {}

    def _forget(self, values: dict[str, Any]) -> dict[str, Any]:
        kept = self._supervisor.forget([Key(*item) for item in values["items"]])
        return {"kept": [list(key) for key in kept]} if kept else {}

    def _records(self, values: dict[str, Any]) -> dict[str, Any]:
        after = values["after"]
        found, more = self._ledger.list_starts(Key(*after) if after else Key(0, 0))
        return {"items": found, "next": [found[-1]["row"], found[-1]["start_no"]] if more else None}

    def _kinds(self, values: dict[str, Any]) -> dict[str, Any]:
        found = self._catalogue.describe()
        if values["known"] == found["digest"]:
            return {"digest": found["digest"], "unchanged": True}
        return found

    def _output(self, values: dict[str, Any]) -> dict[str, Any]:
        key, stream = key_of(values), values["stream"]
        extents, totals, has_ended = self._extents(key)
        asked, limit = values["offset"], values["limit"]
        if stream == BOTH:
            total = sum(totals.values())
            found = read_both(self._ledger.fd, key, extents, totals, asked, limit)
        else:
            total = totals[stream]
            found = read_piece(self._ledger.fd, key, stream, extents[stream], asked, limit)
        offset, data, is_last = found
        read = STREAMS if stream == BOTH else (stream,)
        is_gone = has_ended and is_last and not data and asked < total
        return {
            "offset": offset, "data": encode_base64(data), "next_offset": offset + len(data),
            "total": total, "done": has_ended and is_last,
            "pruned": is_gone and not self._is_kept(key, {name: extents[name] for name in read}),
        }  # fmt: skip

    def _is_kept(self, key: Key, extents: dict[str, list[Extent]]) -> bool:
        """Whether any file of these is there."""
        parts = [(stream, part) for stream, found in extents.items() for part in found]
        return any(self._ledger.has_segment(key, stream, part.start) for stream, part in parts)

    def _extents(self, key: Key) -> tuple[dict[str, list[Extent]], dict[str, int], bool]:
        """(what is kept of each stream, bytes written in all, whether the run has ended)."""
        run = self._supervisor.running.get(key)
        if run is not None:
            kept = {**run.outputs} if run.marks is None else {**run.outputs, MARKS: run.marks.kept}
            extents = {
                name: [Extent(segment.start, segment.size) for segment in one.segments]
                for name, one in kept.items()
            }
            totals = {name: one.total for name, one in run.outputs.items()}
            return extents, totals, run.ended is not None
        found = self._ledger.read(key)
        if found is None:
            raise UnknownRun(f"there is no run {key.row}.{key.start_no}")
        if found.exit is not None:
            files = found.exit["files"]
            extents = {name: [Extent(*part) for part in parts] for name, parts in files.items()}
            totals = {name: found.exit["output"][name]["bytes"] for name in STREAMS}
            return extents, totals, True
        extents = extents_on_disk(self._ledger.fd, key, self._ledger.segments({key})[key])
        totals = {name: _end_of(extents[name]) for name in STREAMS}
        return extents, totals, True

    def _progress(self, values: dict[str, Any]) -> dict[str, Any]:
        items = []
        for item in values["items"]:
            found = progress.read_progress(self._ledger.fd, Key(*item))
            if found is not None:
                percent, message = found
                entry = {"row": item[0], "start_no": item[1]}
                items.append({**entry, "percent": percent, "message": message})
        return {"items": items}

    def _status(self, values: dict[str, Any]) -> dict[str, Any]:
        return {
            "version": VERSION, "pid": os.getpid(), "started_at": self._started_at,
            "running": len(self._supervisor.running), "generation": self._generation.current,
            "memory_bytes": _resident_bytes(), "uncollected": len(self._supervisor.collecting),
            "scripts_dir": self._catalogue.path, **self._containment(),
        }  # fmt: skip

    def _containment(self) -> dict[str, Any]:
        """What holds of P11 here, and what a stop did not end."""
        return {
            "containment": "attributed" if self._cgroups is None else "cgroup",
            "controllers": sorted(self._cgroups.controllers) if self._cgroups else [],
            "survivors": self._supervisor.ending.survivors,
        }

    def _leave(self, values: dict[str, Any]) -> dict[str, Any]:
        return {"leaving": self.ask_to_leave()}

    # -- notices ----------------------------------------------------------------------------

    def tell_kinds_changed(self) -> None:
        """The scripts directory is not what it was."""
        self.server.send_notice({"event": "kinds"})

    def _tell_survivors(self, run: Run | None, count: int) -> None:
        key = (None, None, None) if run is None else (run.key.row, run.key.start_no, run.action_id)
        names = dict(zip(("row", "start_no", "id"), key, strict=True))
        self.server.send_notice({"event": "survivors", **names, "count": count})

    def _tell_exited(self, run: Run, record: dict[str, Any]) -> None:
        self.server.send_notice(
            {
                "event": "exited", "row": run.key.row, "start_no": run.key.start_no,
                "id": run.action_id, "record": record,
                "tail": {name: encode_base64(kept.tail) for name, kept in run.outputs.items()},
            }
        )  # fmt: skip


def _refuse(connection: Connection, number: int | None, error: str, reason: Exception) -> None:
    connection.send({"n": number, "ok": False, "error": error, "message": str(reason)[:2_000]})


def _end_of(extents: list[Extent]) -> int:
    return extents[-1].start + extents[-1].size if extents else 0


def _where(error: BaseException) -> str:
    """File and line of each frame, innermost last (`traceback` would cost 0.4 MB resident)."""
    found, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " ".join(found)


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
