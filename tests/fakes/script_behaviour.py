"""What a virtual script does, read from its payload, which the workload has drawn from the seed."""

from __future__ import annotations

from dataclasses import dataclass

from agent.node.ports import StartRequest


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How long it takes, how it exits, and what it makes of TERM: `die`, `ignore` or `exit` (0)."""

    duration_s: float = 1.0
    code: int = 0
    on_term: str = "die"
    output: bytes = b""


def behaviour_of(request: StartRequest) -> Behaviour:
    """The payload's words; `codes` has one exit code per attempt, the last one for the rest.

    Kinds of the test catalogue are understood, too, so that the fake passes their contract suite.
    """
    payload = request.payload
    codes = payload.get("codes") or [payload.get("code", 1 if request.kind == "fail" else 0)]
    ignores = request.kind == "stubborn"
    return Behaviour(
        duration_s=float(payload.get("seconds", 0.01)),
        code=int(codes[min(request.attempt, len(codes)) - 1]),
        on_term="ignore" if ignores else payload.get("on_term", "die"),
        output=_lines(int(payload["bytes"])) if "bytes" in payload else b"",
    )


def _lines(size_bytes: int) -> bytes:
    """As the kind `chatty`: lines of 16 bytes, each its own offset."""
    lines = b"".join(b"%015d\n" % offset for offset in range(0, size_bytes, 16))
    return lines[:size_bytes]
