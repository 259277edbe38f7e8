"""A request's query string, read strictly: typed, bounded, with all of its faults told together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from starlette.requests import Request

from agent.domain.errors import Fault, InvalidDocument, shown
from agent.domain.instants import parse_instant


class Query:
    """The query string, read strictly; `finish` raises all faults, unknown names included."""

    def __init__(self, request: Request) -> None:
        given = request.query_params.multi_items()
        self._given = dict(given)
        self._known: set[str] = set()
        self._faults = [
            Fault(name, "is given more than once; which one is meant?")
            for name, count in Counter(name for name, _ in given).items()
            if count > 1
        ]

    def text(self, name: str) -> str | None:
        """A text, or None."""
        self._known.add(name)
        return self._given.get(name) or None

    def flag(self, name: str) -> bool:
        """`true`, `1` or present without a value."""
        self._known.add(name)
        raw = self._given.get(name, "false").lower()
        if raw not in {"", "1", "true", "0", "false"}:
            self._faults.append(Fault(name, f"must be true or false, not {shown(raw)}"))
        return raw in {"", "1", "true"}

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number within bounds."""
        raw = self.text(name)
        if raw is None:
            return default
        if not raw.isdecimal() or len(raw) > 18 or not low <= int(raw) <= high:
            self._faults.append(
                Fault(name, f"must be a whole number from {low} to {high}, not {shown(raw)}")
            )
            return default
        return int(raw)

    def seconds(self, name: str, default: float, high: float) -> float:
        """Seconds, cut to `high`."""
        raw = self.text(name)
        if raw is None:
            return default
        try:
            value = float(raw)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            self._faults.append(Fault(name, f"must be seconds, not {shown(raw)}"))
            return default
        return min(value, high)

    def instant(self, name: str) -> datetime | None:
        """RFC 3339 with a zone, or None."""
        raw = self.text(name)
        if raw is None:
            return None
        try:
            return parse_instant(raw)
        except ValueError as error:
            self._faults.append(Fault(name, f"{shown(raw)}: {error}"))
            return None

    def one_of(self, name: str, words: Iterable[str]) -> str | None:
        """One of the words, or None."""
        raw = self.text(name)
        known = list(words)
        if raw is not None and raw not in known:
            self._faults.append(Fault(name, f"{shown(raw)} is not one of {', '.join(known)}"))
            return None
        return raw

    def finish(self) -> None:
        """Raise `InvalidDocument` if anything was wrong."""
        for name in self._given:
            if name not in self._known:
                known = ", ".join(sorted(self._known)) or "none"
                self._faults.append(Fault(name, f"is not a parameter here; known are {known}"))
        if self._faults:
            raise InvalidDocument(self._faults)
