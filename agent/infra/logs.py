"""Logs: structlog, JSON lines for a collector, readable lines on a terminal. To stderr.

Event names are constants in `agent.node.log_events` and `agent.core.log_events`.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

# structlog imports rich for its tracebacks wherever it is installed: 4 MB in a daemon that never
# draws one. Marking it as absent before the first import keeps it out.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

import structlog  # noqa: E402  (see above)

LEVELS = ("debug", "info", "warning", "error")


class Stderr:
    """Standard error as far as it takes what it is given.

    A full disk under it, or a terminal that has gone, costs lines and never the work they tell of.
    """

    def write(self, text: str) -> None:
        """Write, or drop."""
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """Flush, or drop."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def _wants_colors() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")  # no-color.org


def configure_logging(program: str, *, json: bool | None = None, level: str = "info") -> None:
    """Set up the process's one log. `json` None: JSON unless stderr is a terminal."""
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=_wants_colors())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", Stderr())),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(program=program)


def get_log() -> Any:
    """The process's log."""
    return structlog.get_logger()
