"""What can go wrong between a program and the core."""

from __future__ import annotations

from agent.domain.errors import Fault


class CoreError(Exception):
    """Base of what the client raises."""

    maybe_done = False


class CoreUnreachable(CoreError):
    """No usable answer came, after all repeats; the text says what was tried.

    `maybe_done` tells whether the core may have done it all the same.
    """

    def __init__(self, message: str, *, maybe_done: bool) -> None:
        self.maybe_done = maybe_done
        super().__init__(message)


class CoreRefused(CoreError):
    """The core understood and refused. `code` is for programs (docs/core-api.md).

    `faults` are all that is wrong with what was sent; `maybe_done` tells whether an earlier try of
    this very request may have been done, its answer being lost.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        faults: tuple[Fault, ...] = (),
        *,
        maybe_done: bool = False,
    ) -> None:
        self.status = status
        self.code = code
        self.faults = faults
        self.maybe_done = maybe_done
        told = "".join(f"\n  {fault}" for fault in faults)
        super().__init__(f"{code}: {message}{told}" if not faults else f"{code}:{told}")
