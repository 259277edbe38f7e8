"""Values that people type: JSON or `@file`, dates, spans. Faults are usage errors (exit code 2)."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

import click

from agent.cli.times import read_when
from agent.domain.instants import format_instant, parse_span_s
from agent.wire import strict_json

FILE_BYTES_MAX = 1024 * 1024


def json_value(text: str | None, option: str) -> Any:
    """JSON, `@file` with JSON in it, or `@-` for standard input."""
    if text is None:
        return None
    try:
        return strict_json.decode(_content(text))
    except OSError as error:
        raise click.UsageError(f"{option}: {text[1:]}: {error.strerror}") from None
    except UnicodeEncodeError:
        raise click.UsageError(f"{option}: is not UTF-8") from None
    except (strict_json.NotJson, ValueError) as error:
        raise click.UsageError(f"{option}: {error}") from None


def _content(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode()
    if text == "@-":
        return _bounded(sys.stdin.buffer)
    with Path(text[1:]).open("rb") as file:
        return _bounded(file)


def _bounded(file: IO[bytes]) -> bytes:
    data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"is larger than {FILE_BYTES_MAX} bytes")
    return data


def instant(text: str | None, option: str, now: datetime) -> str | None:
    """A date as people write it, as the API wants it."""
    if text is None:
        return None
    try:
        return format_instant(read_when(text, now))
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None


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
        return instant(at, "--at", now)
    return format_instant(now + timedelta(seconds=seconds))
