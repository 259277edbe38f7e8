"""What can be wrong, as values that a person can act on.

A `Fault` names the place and the value; documents report all their faults at once.
Exceptions here are raised by pure code and translated once, at an edge.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FAULTS_SHOWN_MAX = 50  # a hostile document can have thousands; fifty are enough to act on
VALUE_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a document, at a dotted `path`; `message` says what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class AgentError(Exception):
    """Base of every error that this project raises on purpose."""


class InvalidDocument(AgentError):
    """A document was refused; carries every fault that was found."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)[:FAULTS_SHOWN_MAX]
        super().__init__("; ".join(str(fault) for fault in self.faults))


class IllegalTransition(AgentError):
    """The lifecycle table has no such transition. Nothing was changed."""


class Refused(AgentError):
    """A request was understood and is refused; `code` is for programs, the text for people."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class NotFound(Refused):
    """There is no such thing."""

    def __init__(self, message: str) -> None:
        super().__init__("not_found", message)


def shown(value: object) -> str:
    """The value as an error message shows it: its repr, cut to a length a terminal can bear."""
    text = repr(value)
    return text if len(text) <= VALUE_SHOWN_CHARS else text[: VALUE_SHOWN_CHARS - 1] + "…"
