"""Values that people type: JSON or `@file`, dates, spans. Faults are usage errors (exit code 2)."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from agent.domain.instants import format_instant, parse_instant, parse_span_s
from agent.wire import strict_json

FILE_BYTES_MAX = 1024 * 1024


def json_value(text: str | None, option: str) -> Any:
    """JSON, `@file` with JSON in it, or `@-` for standard input."""
    if text is None:
        return None
    try:
        return strict_json.decode(_content(text))
    except (strict_json.NotJson, OSError) as error:
        raise click.UsageError(f"{option}: {error}") from None


def _content(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode()
    if text == "@-":
        return sys.stdin.buffer.read(FILE_BYTES_MAX)
    with Path(text[1:]).open("rb") as file:
        return file.read(FILE_BYTES_MAX)


def instant(text: str | None, option: str) -> str | None:
    """RFC 3339 with a zone, as the API wants it."""
    if text is None:
        return None
    try:
        return format_instant(parse_instant(text))
    except ValueError as error:
        raise click.UsageError(f"{option} {text!r}: {error}") from None


def span_s(text: str | None, option: str) -> float | None:
    """`10s`, `1h30m` → seconds."""
    if text is None:
        return None
    try:
        return parse_span_s(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None


def start(at: str | None, delay: str | None, now: datetime) -> str | None:
    """`--at` or `--in`, not both, as `from_date`."""
    if at is not None and delay is not None:
        raise click.UsageError("--at and --in exclude each other")
    seconds = span_s(delay, "--in")
    if seconds is None:
        return instant(at, "--at")
    return format_instant(now + timedelta(seconds=seconds))
