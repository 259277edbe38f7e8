"""The campaign of `scripts/stress-core`: everything at once, with kill -9, then a reckoning.

Prints what was tried and what was found; ends with 1 when anything was found. The seed decides what
people and nodes do, not in which order the cores get it: a second run is another run.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import click
import httpx

from tests.fakes.postgres import Postgres
from tests.stress import checks
from tests.stress.node import StressNode
from tests.stress.operators import ZONES, Books, Operators
from tests.stress.reader import Reader
from tests.stress.world import ASKED_S_MAX, Seat, World, kill_and_restart, start_cores

SETTLE_S_MAX = 60.0
FIRED_S_MAX = 70.0  # those that a killed core had set are found by another within a minute
SORTS_MAX = 20  # of complaints; more would not be read


@click.command()
@click.option("--minutes", default=2.0, show_default=True)
@click.option("--cores", default=2, show_default=True, help="One where SQLite is the store.")
@click.option("--database", type=click.Choice(["sqlite", "postgres"]), default="postgres",
              show_default=True)  # fmt: skip
@click.option("--nodes", default=30, show_default=True)
@click.option("--people", default=8, show_default=True, help="Who ask at the same time.")
@click.option("--kill-every", default=15.0, show_default=True, help="Seconds; 0: nobody is killed.")
@click.option("--seed", type=int, help="Of what people and nodes do.")
def main(
    minutes: float,
    cores: int,
    database: str,
    nodes: int,
    people: int,
    kill_every: float,
    seed: int | None,
) -> None:
    """Disturb a core in every way at once, and see whether it holds."""
    number = secrets.randbits(32) if seed is None else seed
    count = 1 if database == "sqlite" else cores
    click.echo(f"{database}: {count} cores, {nodes} nodes, {minutes:g} minutes, --seed {number}")
    with tempfile.TemporaryDirectory(prefix="stress-") as base, _store(database, Path(base)) as url:
        settings = {} if database == "sqlite" else {"database": url}
        seats = start_cores(Path(base), count, **settings)
        try:
            found = asyncio.run(
                campaign(seats, Random(number), url, minutes * 60, (nodes, people), kill_every)
            )
        finally:
            codes = [seat.core.stop() for seat in seats]
        found += [f"a core ended with {code}" for code in codes if code != 0]
        for seat in seats:
            found += _told(seat.core.log)
    for line in found:
        click.echo(f"  FOUND {line}")
    click.echo(f"{len(found)} findings")
    sys.exit(1 if found else 0)


@contextmanager
def _store(name: str, base: Path) -> Iterator[str]:
    if name == "sqlite":
        yield f"sqlite:///{base}/core-0/core.db"
        return
    server = Postgres(log_lock_waits="on").start()
    try:
        yield server.empty_database()
        _tell_of_postgres(server.log.read_text(errors="replace"))
    finally:
        server.clean_up()


def _tell_of_postgres(log: str) -> None:
    """Deadlocks and the like are run again, so they are no findings; there should be few."""
    errors = Counter(re.findall(r"(?:ERROR|FATAL|PANIC):  ([^\n]{0,100})", log))
    for text, count in errors.most_common(SORTS_MAX):
        click.echo(f"  PostgreSQL said {count} times: {text}")
    for found in re.findall(r"deadlock detected\n(?:.*\n){0,12}", log)[:3]:
        click.echo(found)


def _told(log: Path) -> list[str]:
    """What a core complained of, each sort of it once: the end of its traceback."""
    lines = log.read_text(errors="replace").splitlines()
    ends = Counter(
        line.rpartition("Traceback")[2].replace("\\n", "\n").rstrip('"} \n').rpartition("\n")[2]
        for line in lines
        if "Traceback" in line or "timer_failed" in line or "loop_failed" in line
    )
    return [f"{log.name} said {n} times: {end[:300]}" for end, n in ends.most_common(SORTS_MAX)]


async def campaign(
    seats: list[Seat],
    random: Random,
    url: str,
    seconds: float,
    crowd: tuple[int, int],
    kill_every: float,
) -> list[str]:
    """What was found."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    async with httpx.AsyncClient(limits=limits, timeout=ASKED_S_MAX, trust_env=False) as client:
        world = World(seats, random, client, seats[0].core.token)
        nodes = [StressNode(world, f"n-{number}", {"shift": "day"}) for number in range(crowd[0])]
        books = Books()
        for node in nodes:
            assert await node.enroll(), "nobody is killed yet"
            label = {"labels": {"zone": random.choice(ZONES)}}
            await world.ask("PATCH", f"/v1/agents/{node.id}", label)
        readers = [Reader(world, seat) for seat in seats]
        following = [asyncio.create_task(reader.follow()) for reader in readers]
        operators = Operators(world, nodes, books)
        tasks = [*(node.live() for node in nodes), *(operators.work() for _ in range(crowd[1]))]
        if kill_every:
            tasks.append(kill_and_restart(world, kill_every))
        busy = [asyncio.create_task(task) for task in tasks]
        done, _ = await asyncio.wait(busy, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        world.is_over = True
        for task in done:
            task.result()
        await asyncio.gather(*busy)
        await asyncio.sleep(3)  # who died last is let go by the database; timers are fired
        for node in nodes[::2]:  # the others that are out of service stay so
            if node.is_away:
                assert await node.enroll(), "nobody is killed any more"
        until = asyncio.get_running_loop().time() + FIRED_S_MAX
        while checks.is_anything_due(url):
            if asyncio.get_running_loop().time() > until:
                world.find(f"a timer is not fired after {FIRED_S_MAX:g} s")
                break
            await asyncio.sleep(0.2)
        until = asyncio.get_running_loop().time() + SETTLE_S_MAX
        quiet = await asyncio.gather(*(node.settle(until) for node in nodes))
        if not all(quiet):
            world.find(f"{quiet.count(False)} nodes are not quiet after {SETTLE_S_MAX:g} s")
        world.findings += await checks.ask_the_core(world)
        await asyncio.sleep(1)
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        for what, times in sorted(world.counts.items()):
            click.echo(f"  {what}: {times}")
        click.echo(f"  events seen: {[len(reader.seen) for reader in readers]}")
        return [*world.findings, *checks.look_into(url, nodes, readers, books)]


if __name__ == "__main__":
    main()
