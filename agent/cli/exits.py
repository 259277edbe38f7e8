"""Exit codes of the commands, and the one exception that carries them to the shell.

People read stderr; with `--json` a program also finds the failure as one JSON object on stdout.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

DONE = 0
ACTION_FAILED = 1
USAGE = 2
UNREACHABLE = 3
NOT_FOUND = 4
REFUSED = 5
EXITS = {404: NOT_FOUND, 503: UNREACHABLE}  # of HTTP; 503: it is there, and its database is not
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
CLOSED_PIPE = 141  # 128 + SIGPIPE: whoever read the output has enough


@contextmanager
def told_to_the_shell() -> Iterator[None]:
    """Endings that are nobody's refusal, each with a code of its own: 1 means a failed action."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Python flushes once more on its way out, and would complain of the same.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(CLOSED_PIPE)
    except UnicodeEncodeError as error:
        told = "an argument is not UTF-8"
        if error.encoding not in ("utf-8", "utf8"):
            told = f"the output cannot be written in {error.encoding}; use a UTF-8 locale"
        raise click.UsageError(told, click.get_current_context(silent=True)) from None


class Failure(click.ClickException):
    """A command that could not be carried out; `hint` says what to do about it."""

    def __init__(
        self, exit_code: int, code: str, message: str, *, hint: str = "",
        faults: Sequence[dict[str, str]] = (), as_json: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it on the class
        self.code = code
        self.hint = hint
        self.faults = faults
        self.as_json = as_json

    def show(self, file: IO[Any] | None = None) -> None:
        """Told to people on stderr; every fault on a line of its own."""
        name = Path(sys.argv[0]).name  # the context is gone by now
        if self.faults:
            for fault in self.faults:
                where = f"{fault['path']}: " if fault.get("path") else ""
                click.echo(f"{name}: {where}{fault.get('message', '')}", err=True)
        else:
            click.echo(f"{name}: {self.message}", err=True)
        if self.hint:
            click.echo(f"{name}: {self.hint}", err=True)
        if self.as_json:
            print_json(self.plain())

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        told: dict[str, Any] = {"error": self.code, "message": self.message}
        if self.faults:
            told["faults"] = list(self.faults)
        if self.hint:
            told["hint"] = self.hint
        return told


def print_json(value: Any) -> None:
    """One document on stdout: indented where a person looks, one line where a program reads."""
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(value, ensure_ascii=False, indent=indent))
