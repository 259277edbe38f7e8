"""What stands behind the method in an HTTP request: only what means one thing, to everybody.

A proxy, a log and a database may each read half an escape, a NUL or wild bytes in their own way.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

from agent.domain.errors import Refused, shown

_HALF_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def require_sound(scope: Scope) -> None:
    """Raise `Refused` (400) for an incomplete escape, a NUL, or bytes that are not UTF-8."""
    for part in (scope.get("raw_path") or b"", scope["query_string"]):
        wrong = _wrong_with(part) if b"%" in part else None
        if wrong is not None:
            raise Refused("bad_request", f"there is {wrong} in {shown(part.decode('latin-1'))}")


def _wrong_with(part: bytes) -> str | None:
    if _HALF_ESCAPE.search(part):
        return "an incomplete %-escape"
    try:
        text = unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        return "a %-escape that is not UTF-8"
    return "a NUL" if "\0" in text else None
