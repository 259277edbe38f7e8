"""The names of files in the runs directory: numbers only, never an id. Pure."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Stream = Literal["stdout", "stderr"]
BOTH = "both"  # the two in the order in which they were read
MARKS = "marks"  # what says that order
STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")
_SUFFIX: dict[str, str] = {"stdout": "out", "stderr": "err", MARKS: "mix"}
_STREAM = {suffix: stream for stream, suffix in _SUFFIX.items()}
_OUTPUT = re.compile(r"([1-9][0-9]*)\.([1-9][0-9]*)\.(out|err|mix)(?:\.([0-9]+))?\Z")
_RUN = re.compile(r"([1-9][0-9]*)\.([1-9][0-9]*)\.run\Z")


class Key(NamedTuple):
    """What names a run: docs/runner-protocol.md, A run."""

    row: int
    start_no: int


def run_name(key: Key) -> str:
    """Marker, stop cause and exit record."""
    return f"{key[0]}.{key[1]}.run"


def progress_name(key: Key) -> str:
    """The file that the script may write."""
    return f"{key[0]}.{key[1]}.progress"


def output_name(key: Key, stream: str, offset: int) -> str:
    """The segment whose first byte is the script's byte number `offset`."""
    name = f"{key[0]}.{key[1]}.{_SUFFIX[stream]}"
    return f"{name}.{offset}" if offset else name


def key_of_run(name: str) -> Key | None:
    """The key that a run file's name says, or None for any other file."""
    found = _RUN.match(name)
    return Key(int(found[1]), int(found[2])) if found else None


def segment_of(name: str) -> tuple[Key, str, int] | None:
    """Key, stream and offset that an output segment's name says, or None for any other file."""
    found = _OUTPUT.match(name)
    if found is None:
        return None
    return Key(int(found[1]), int(found[2])), _STREAM[found[3]], int(found[4] or 0)
