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
from agent.runner.names import Key
from agent.runner.output_reading import Extent, extents_on_disk, read_piece
from agent.runner.run import running_summary
from agent.runner.supervisor import Conflict, Unavailable, UnknownRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.runner.catalogue import Catalogue
    from agent.runner.connection import Connection
    from agent.runner.generation import Generation
    from agent.runner.journal import Journal
    from agent.runner.ledger import Ledger
    from agent.runner.run import Run
    from agent.runner.server import Server
    from agent.runner.supervisor import Supervisor

FEATURES = ("leftovers", "dry_run", "stop_at", "progress")


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
    ) -> None:
        self._supervisor = supervisor
        self._catalogue = catalogue
        self._ledger = ledger
        self._generation = generation
        self._journal = journal
        self._parallel_max = parallel_max
        self._started_at = round(time.time(), 3)
        supervisor.on_exited = self._tell_exited

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
            raise BadRequest(f"protocols {values['protocols']}: this runner speaks {PROTOCOLS[0]}")
        self._check_generation(values["generation"])
        self._generation.raise_to(values["generation"])
        connection.generation = values["generation"]
        self.server.set_newest(connection)
        return {
            "protocol": max(spoken), "version": VERSION, "pid": os.getpid(),
            "boot_id": self._supervisor.boot_id, "max_row": self._ledger.max_row,
            "parallel_max": self._parallel_max, "features": list(FEATURES),
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

    def _kinds(self, values: dict[str, Any]) -> dict[str, Any]:
        found = self._catalogue.describe()
        if values["known"] == found["digest"]:
            return {"digest": found["digest"], "unchanged": True}
        return found

    def _output(self, values: dict[str, Any]) -> dict[str, Any]:
        key, stream = key_of(values), values["stream"]
        extents, total, has_ended = self._extents(key, stream)
        offset, data, is_last = read_piece(
            self._ledger.fd, key, stream, extents, values["offset"], values["limit"]
        )
        return {
            "offset": offset, "data": encode_base64(data), "next_offset": offset + len(data),
            "total": total, "done": has_ended and is_last,
        }  # fmt: skip

    def _extents(self, key: Key, stream: str) -> tuple[list[Extent], int, bool]:
        """(what is kept, bytes written in all, whether the run has ended)."""
        run = self._supervisor.running.get(key)
        if run is not None:
            kept = run.outputs[stream]
            extents = [Extent(segment.start, segment.size) for segment in kept.segments]
            return extents, kept.total, run.ended is not None
        found = self._ledger.read(key)
        if found is None:
            raise UnknownRun(f"there is no run {key.row}.{key.start_no}")
        if found.exit is not None:
            extents = [Extent(*part) for part in found.exit["files"][stream]]
            return extents, found.exit["output"][stream]["bytes"], True
        on_disk = extents_on_disk(self._ledger.fd, key, self._ledger.segments({key})[key])
        extents = on_disk[stream]
        return extents, extents[-1].start + extents[-1].size if extents else 0, True

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
        }  # fmt: skip

    # -- notices ----------------------------------------------------------------------------

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
