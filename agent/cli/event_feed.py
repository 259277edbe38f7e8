"""Server-sent events on the command line: read as they come, and resumed where they broke off.

The core sends the number of each event; whoever reconnects names the last one, and misses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.cli.api_client import ApiClient, ApiRefused, Unreachable
from agent.wire import strict_json

IDLE_S_MAX = 45.0  # the core shows that it is there every 15 s
RETRY_S_MIN, RETRY_S_MAX = 0.25, 10.0
LINE_BYTES_MAX = 4 * 1024 * 1024  # an event is at most a small part of it
GONE = 410
BUSY = 503

Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Frame:
    """One block of the stream; `data` is None where only the place moved on."""

    id: str | None
    data: str | None


def frames(chunks: Iterable[bytes]) -> Iterator[Frame]:
    """The blocks of a stream, whatever pieces it comes in."""
    held: dict[str, str] = {}
    for line in _lines(chunks):
        if not line:
            if held:
                yield Frame(held.get("id"), held.get("data"))
            held = {}
            continue
        name, _, value = line.partition(":")
        if name in ("id", "data"):  # others, and comments (no name), are not for us
            held[name] = value.removeprefix(" ")


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace").removesuffix("\r")
        if len(rest) > LINE_BYTES_MAX:
            raise Unreachable(ValueError("line"), "the stream of events has a line without end")


class Feed:
    """Endless events; comes back by itself. Raises `Unreachable` if the core was never reached."""

    def __init__(
        self, client: ApiClient, query: Mapping[str, Any], after: str | None, notice: Notice
    ) -> None:
        self._client = client
        self._query = query
        self._reached = after
        self._notice = notice
        self._was_there = False
        self._told_away = False

    def events(self) -> Iterator[dict[str, Any]]:
        """Each once, in order. Raises `ApiRefused` for what coming back cannot change."""
        pause_s = RETRY_S_MIN
        while True:
            try:
                for document in self._once():
                    pause_s = RETRY_S_MIN
                    yield document
            except Unreachable as error:
                if not self._was_there:
                    raise
                self._tell_away(str(error))
            except ApiRefused as error:
                self._forgive(error)
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_S_MAX)

    def _once(self) -> Iterator[dict[str, Any]]:
        headers = {"Accept": "text/event-stream"}
        if self._reached is not None:
            headers["Last-Event-ID"] = self._reached
        with self._client.stream(
            "/v1/events", idle_s_max=IDLE_S_MAX, headers=headers, **self._query
        ) as answer:
            self._came()
            for frame in frames(answer.chunks):
                self._reached = frame.id or self._reached
                if frame.data is not None:
                    yield strict_json.decode(frame.data)

    def _came(self) -> None:
        if self._told_away:
            self._notice("the core is back")
        self._was_there, self._told_away = True, False

    def _tell_away(self, why: str) -> None:
        if not self._told_away:
            self._notice(f"{why}; trying again until it is back")
        self._told_away = True

    def _forgive(self, error: ApiRefused) -> None:
        """A hole in what is kept is told and passed over; being busy is waited for."""
        if error.status == GONE and self._reached is not None:
            self._notice(f"{error}; going on with what happens from now on")
            self._reached = None
        elif error.status == BUSY and self._was_there:
            self._tell_away(str(error))
        else:
            raise error
