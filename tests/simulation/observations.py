"""What was seen, in order: the only thing that the checker may look at besides the two databases.

The same lines are the trace; its hash is what "the same seed gives the same run" means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Seen:
    """One observation: when (virtual seconds), on which node ("": none), what, and its values."""

    at_s: float
    node: str
    what: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        told = " ".join(f"{name}={_plain(value)}" for name, value in self.values.items())
        return f"{self.at_s:12.6f} {self.node or '-':4} {self.what} {told}"

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


class Observations:
    """The list, with a clock to date its lines."""

    def __init__(self, time_s: Callable[[], float]) -> None:
        self._time_s = time_s
        self.seen: list[Seen] = []

    def note(self, what: str, node: str = "", /, **values: Any) -> None:
        """Something happened."""
        self.seen.append(Seen(self._time_s(), node, what, values))

    def of(self, *whats: str) -> Iterator[Seen]:
        """The observations of these sorts."""
        return (one for one in self.seen if one.what in whats)

    def digest(self) -> str:
        """The hash of the whole trace."""
        state = hashlib.sha256()
        for one in self.seen:
            state.update(str(one).encode())
            state.update(b"\n")
        return state.hexdigest()[:16]


class TraceLog:
    """A structlog look-alike: what `agentd` logs becomes part of the trace."""

    def __init__(self, watch: Callable[..., None]) -> None:
        self._watch = watch

    def info(self, event: str, **values: Any) -> None:
        """A line."""
        self._watch("log", event=event, **values)

    warning = error = info


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.strftime("%H:%M:%S.%f")
    if isinstance(value, BaseException):
        return repr(value)
    return str(value)
