"""`corectl watch | events`: what happens, live; what has happened."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import click

from agent.cli.core_commands.context import CoreContext
from agent.cli.event_feed import Feed
from agent.cli.event_sentences import sentence_of
from agent.cli.output import Command, json_option, show, wants_json
from agent.cli.paging import PAGE
from agent.cli.tables import text
from agent.wire import strict_json


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which events: the same for everything that reads or receives them."""
    for option in (
        click.option("--correlation-id", help="Of actions with this correlation id."),
        click.option("--kind", help="Of actions of this kind."),
        click.option("--action", "action_id", help="Of this action."),
        click.option("--type", "types", multiple=True, help="Of this type; may be repeated."),
        click.option("--selector", help="Of nodes with these labels."),
        click.option("--node", help="Of this node."),
    ):
        command = option(command)
    return command


def as_query(wanted: dict[str, Any]) -> dict[str, Any]:
    """The options as the API's parameters."""
    types = wanted.pop("types")
    return {**wanted, "type": ",".join(types) or None}


@click.command("watch", cls=Command)
@filter_options
@click.option("--after", type=click.IntRange(0), help="Begin behind this event; 0: the oldest.")
@click.option("--count", type=click.IntRange(1), help="Stop after so many.")
@json_option
@click.pass_context
def watch(
    context: click.Context, /, after: int | None, count: int | None, as_json: bool, **wanted: Any
) -> None:
    """What happens, as it happens, until Ctrl-C; with --json one document per line.

    Comes back by itself when the core was away, and misses nothing.
    """
    core: CoreContext = context.obj
    begin = None if after is None else str(after)
    feed = Feed(core.client(), as_query(wanted), begin, lambda said: click.echo(said, err=True))
    line = strict_json.encode_text if wants_json(context) else _line
    for event in islice(feed.events(), count):
        click.echo(line(event))


@click.command("events", cls=Command)
@filter_options
@click.option("--after", type=click.IntRange(0), default=0, help="Only those behind this event.")
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True,
    help="At most so many.",
)  # fmt: skip
@json_option
@click.pass_context
def events(context: click.Context, /, after: int, limit: int, as_json: bool, **wanted: Any) -> None:
    """Stored events, oldest first."""
    core: CoreContext = context.obj
    client, query = core.client(), as_query(wanted)
    found: list[dict[str, Any]] = []
    place = str(after)
    while len(found) < limit:
        size = min(PAGE, limit - len(found))
        page = client.get("/v1/events", after=place, limit=size, **query)
        found += page["events"]
        if page["next"] == place:
            break
        place = page["next"]
    readable = "\n".join(map(_line, found)) or "no events"
    show(context, {"events": found, "next": place}, readable)


def _line(event: dict[str, Any]) -> str:
    return text(sentence_of(event)).replace("\n", " ")
