"""Wrong usage, told to programs too: with `--json` on the line, one JSON document on stdout.

Click finds such faults before a command runs, so the two groups are where they can be caught.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from agent.cli.exits import print_json

JSON_FLAG = "--json"


class UsageAsJson(click.UsageError):
    """The same fault, shown twice: to people on stderr, to a program on stdout."""

    def __init__(self, error: click.UsageError) -> None:
        super().__init__(error.message, error.ctx)
        self._error = error

    def show(self, file: IO[Any] | None = None) -> None:
        """Both."""
        self._error.show(file)
        print_json({"error": "usage", "message": _message(self._error)})


def _message(error: click.UsageError) -> str:
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
        return "no command was given"
    return error.format_message()


class TellingGroup(click.Group):
    """A group whose usage errors, and those of its commands, obey `--json`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:  # fmt: skip
        """Read the group's own options."""
        as_json = JSON_FLAG in args
        with _telling(as_json=as_json):
            made = super().make_context(info_name, args, parent, **extra)
        made.meta[__name__] = as_json
        return made

    def invoke(self, ctx: click.Context) -> Any:
        """Read the rest of the line and run it."""
        with _telling(as_json=bool(ctx.meta.get(__name__))):
            return super().invoke(ctx)


@contextmanager
def _telling(*, as_json: bool) -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        if not as_json or isinstance(error, UsageAsJson):
            raise
        raise UsageAsJson(error) from None
