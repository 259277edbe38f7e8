"""What `corectl`'s commands share: `--json` anywhere on the line, and one way to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from agent.cli.api_client import ApiRefused, Unreachable
from agent.cli.exits import EXITS, REFUSED, UNREACHABLE, Failure, told_to_the_shell
from agent.cli.usage import TellingGroup
from agent.wire import strict_json

HINT = (
    "is cored running there (systemctl status cored)? Another address is given by --core or "
    "CORE_URL"
)


def now() -> datetime:
    """The wall clock of whoever reads the terminal (`agent.infra.clock` would bring asyncio)."""
    return datetime.now(UTC)


def wants_json(context: click.Context) -> bool:
    """Whether `--json` was given anywhere on the line."""
    return any(one.params.get("as_json") for one in _lineage(context))


def _lineage(context: click.Context) -> list[click.Context]:
    found: list[click.Context] = []
    one: click.Context | None = context
    while one is not None:
        found.append(one)
        one = one.parent
    return found


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--json`; the function reads it through `wants_json`."""
    return click.option(
        "--json", "as_json", is_flag=True, expose_value=True, help="One JSON document for programs."
    )(command)


def show(context: click.Context, document: Any, readable: str) -> None:
    """The document for programs, the text for people."""
    click.echo(strict_json.encode_text(document) if wants_json(context) else readable)


class Command(click.Command):
    """A command that translates what the client raises into a `Failure`, once."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        with _failing(ctx):
            return super().invoke(ctx)


class Group(TellingGroup):
    """A group of such commands, which may do something by itself."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        with _failing(ctx):
            return super().invoke(ctx)


@contextmanager
def _failing(ctx: click.Context) -> Iterator[None]:
    try:
        with told_to_the_shell():
            yield
            return
    except Unreachable as error:
        failure = Failure(UNREACHABLE, "unreachable", str(error), hint=HINT)
    except ApiRefused as error:
        code = EXITS.get(error.status, REFUSED)
        failure = Failure(code, error.code, str(error), faults=error.faults)
    except Failure as error:
        failure = error
    failure.as_json = failure.as_json or wants_json(ctx)
    raise failure
