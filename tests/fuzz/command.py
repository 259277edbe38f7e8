"""The long campaign of `scripts/fuzz-core`: round after round over every operation.

Each round has a seed of its own, which is printed: `--seed N --rounds 1` does it again. Ends with 1
when anything was found; each finding is printed once, shrunk.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import click
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.generation.case import Case
from schemathesis.schemas import APIOperation

from tests.fakes.api_fuzz import World, ask, described
from tests.fakes.core_process import CoreProcess
from tests.fakes.postgres import Postgres

EXAMPLES_PER_ROUND = 60
STORES = ("sqlite", "postgres")
FAULT = "request_failed"


@click.command()
@click.option("--minutes", default=5.0, show_default=True)
@click.option("--rounds", default=1_000_000)
@click.option("--seed", "first", type=int, help="Of the first round.")
@click.option("--store", type=click.Choice([*STORES, "both"]), default="both", show_default=True)
@click.option("--operation", "only", default="", help="Only those whose name contains this.")
def main(minutes: float, rounds: int, first: int | None, store: str, only: str) -> None:
    """Ask a core everything, and believe nothing."""
    stores = STORES if store == "both" else (store,)
    found = 0
    for one in stores:
        until = time.monotonic() + minutes * 60 / len(stores)
        with world_on(one) as world:
            found += campaign(world, one, until, rounds, first, only)
    sys.exit(1 if found else 0)


def campaign(
    world: World, store: str, until: float, rounds: int, first: int | None, only: str
) -> int:
    """How many operations answered something that is not written down."""
    operations = [
        one.ok()
        for one in described().get_all_operations()
        if isinstance(one, Ok) and only in one.ok().label
    ]
    bad: set[str] = set()
    for turn in range(rounds):
        number = secrets.randbits(32) if first is None else first + turn
        click.echo(f"{store}: round {turn + 1}, --seed {number}")
        # In another order each round: what one leaves behind is what the next one meets.
        for operation in Random(number).sample(operations, len(operations)):
            if operation.label not in bad and not holds(operation, world, number):
                bad.add(operation.label)
            if time.monotonic() >= until:
                click.echo(f"{store}: {len(bad)} of {len(operations)} operations surprise")
                return len(bad)
    click.echo(f"{store}: {len(bad)} of {len(operations)} operations surprise")
    return len(bad)


def holds(operation: APIOperation, world: World, number: int) -> bool:
    """Whether every answer of a round was one that is written down; prints what was not."""
    well = True
    for mode in GenerationMode:
        strategy = operation.as_strategy(generation_mode=mode)

        @seed(number)
        @settings(
            deadline=None, database=None, max_examples=EXAMPLES_PER_ROUND,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
        )  # fmt: skip
        @given(case=strategy)
        def one_round(case: Case) -> None:
            ask(world, case)

        try:
            one_round()
        except Unsatisfiable:
            continue  # nothing can be wrong with a request that has nothing in it
        except FailureGroup as failures:
            well = False
            for failure in failures.exceptions:
                click.echo(f"\n{operation.label}: {failure}\n")
        except Exception as error:  # noqa: BLE001  (a campaign goes on, and tells at the end)
            well = False
            click.echo(f"\n{operation.label}: {type(error).__name__}: {error}\n")
    return well


@contextmanager
def world_on(store: str) -> Iterator[World]:
    """A core of its own, on that store."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-")))
        chosen = {}
        if store == "postgres":
            server = Postgres().start()
            stack.callback(server.clean_up)
            chosen["database"] = server.empty_database()
        core = CoreProcess(directory / "core", **chosen).start()
        stack.callback(core.stop)
        try:
            yield World(core.url, core.token).fill()
        finally:
            failed = [line for line in core.log.read_text().splitlines() if FAULT in line]
            click.echo("\n".join([f"{store}: {len(failed)} faults of the core's own", *failed[:5]]))


if __name__ == "__main__":
    main()
