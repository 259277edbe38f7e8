"""The layout of ROW.START_NO.run, pure: bytes to values and back. Reading and writing is elsewhere.

One file of 4,096 bytes, written whole before the script starts, so that every later write falls
into space that is already there and a full disk loses no result. Four slots, each a line
`CRC32 JSON`, padded with spaces, so that a torn or foreign write reads as absent, never as a lie:

    0     marker   what was asked for; `state` is "start" or "tombstone"
    1024  process  pid and start time, after the spawn
    1280  stop     the cause of a stop, before TERM is sent
    1536  exit     the exit record
"""

from __future__ import annotations

import json
from binascii import crc32
from typing import Any, NamedTuple

from agent.runner.limits import RECORD_FILE_BYTES

STATE_START = "start"
STATE_TOMBSTONE = "tombstone"


class Slot(NamedTuple):
    """A place in the file."""

    name: str
    offset: int
    size: int


MARKER = Slot("marker", 0, 1_024)
PROCESS = Slot("process", 1_024, 256)
STOP = Slot("stop", 1_280, 256)
EXIT = Slot("exit", 1_536, RECORD_FILE_BYTES - 1_536)
SLOTS = (MARKER, PROCESS, STOP, EXIT)

_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class RunFile(NamedTuple):
    """What a run file says. A slot that is absent or unreadable is None."""

    marker: dict[str, Any] | None
    process: dict[str, Any] | None
    stop: dict[str, Any] | None
    exit: dict[str, Any] | None

    @property
    def is_tombstone(self) -> bool:
        """Whether this run can never start."""
        return self.marker is not None and self.marker.get("state") == STATE_TOMBSTONE


def encode_slot(slot: Slot, value: dict[str, Any]) -> bytes:
    """The slot's bytes. ValueError if the value does not fit: bounds elsewhere are wrong then."""
    body = _encode_json(value).encode()
    line = b"%08x %s\n" % (crc32(body), body)
    if len(line) > slot.size:
        raise ValueError(f"{slot.name} of {len(line)} bytes exceeds its slot of {slot.size}")
    return line.ljust(slot.size - 1, b" ") + b"\n"


def encode_file(marker: dict[str, Any], exit_record: dict[str, Any] | None = None) -> bytes:
    """A whole new file: the marker, perhaps an exit record, and room for the rest."""
    head = encode_slot(MARKER, marker)
    if exit_record is None:
        return head.ljust(RECORD_FILE_BYTES, b" ")
    return head.ljust(EXIT.offset, b" ") + encode_slot(EXIT, exit_record)


def decode_slot(data: bytes) -> dict[str, Any] | None:
    """The value of a slot, or None when it is empty, torn or foreign."""
    line, newline, _ = data.partition(b"\n")
    if not newline or len(line) < 10:
        return None
    try:
        if int(line[:8], 16) != crc32(line[9:]):
            return None
        value = json.loads(line[9:])
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def decode_file(data: bytes) -> RunFile:
    """What the file says; an empty or broken file gives only None."""
    return RunFile(*(decode_slot(data[slot.offset : slot.offset + slot.size]) for slot in SLOTS))


def has_exit(data: bytes) -> bool:
    """Whether there is something in the exit slot, without reading it."""
    return len(data) > EXIT.offset and data[EXIT.offset : EXIT.offset + 1] not in (b" ", b"\0")
