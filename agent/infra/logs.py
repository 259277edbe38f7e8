"""Logs: structlog, JSON lines for a collector, readable lines on a terminal. To stderr.

Event names are constants in `agent.node.log_events` and `agent.core.log_events`.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

# structlog imports rich for its tracebacks wherever it is installed: 4 MB in a daemon that never
# draws one. Marking it as absent before the first import keeps it out.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

import structlog  # noqa: E402  (see above)

LEVELS = ("debug", "info", "warning", "error")


def configure_logging(program: str, *, json: bool | None = None, level: str = "info") -> None:
    """Set up the process's one log. `json` None: JSON unless stderr is a terminal."""
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
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
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(program=program)


def get_log() -> Any:
    """The process's log."""
    return structlog.get_logger()
