"""`scripts/simulate`: many seeds, what was tried, for a bad one what broke and how to repeat it.

Exit code 0: every promise held in every seed. 1: a promise was broken. 2: usage.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import click

from tests.simulation.checker.check import check
from tests.simulation.checker.violation import Violation
from tests.simulation.evidence import Evidence
from tests.simulation.world import simulate

LINES_SHOWN_MAX = 60
VIOLATIONS_SHOWN_MAX = 5
LINE_CHARS_MAX = 240
FAILED_SEEDS_MAX = 10
BATCH = 64
COUNTED = (
    "script_started", "told", "booted", "network_lost", "network_doubled", "core_restored",
    "node_restored", "restarted_because_fenced",
)  # fmt: skip
PEOPLES = frozenset({"approve", "reject", "freeze", "thaw", "reschedule", "retry", "relabel"})
EVERYWHERE = frozenset({"fault", "repaired", "booted", "core_restored", "node_restored"})
ALWAYS_LOGGED = frozenset({"core_forked", "core_refused", "core_fenced"})


@dataclass(slots=True)
class Report:
    """One seed, small enough to travel between processes."""

    seed: int
    digest: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def run_seed(
    seed: int, *, actions: int = 20, rules: int = 0, people: int = 0, trace: bool = False
) -> Report:
    """Simulate and check."""
    try:
        evidence = simulate(seed, actions=actions, rules=rules, people=people)
        violations = check(evidence)
    except Exception:  # noqa: BLE001  (shown with its seed: a bug of the simulation or of us)
        return Report(seed, violations=[Violation("bug", traceback.format_exc())])
    lines = [str(seen) for seen in evidence.seen.seen] if trace else []
    if violations and not trace:
        lines = relevant_lines(evidence, violations)
    return Report(seed, evidence.seen.digest(), _counts(evidence), violations, lines)


def _counts(evidence: Evidence) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seen in evidence.seen.seen:
        if seen.what == "fault":
            counts[f"fault {seen['kind']}"] += 1
        elif seen.what == "asked" and seen["wish"] in PEOPLES:
            counts[f"people {seen['wish']}"] += 1
        elif seen.what in COUNTED:
            counts[seen.what] += 1
        elif seen.what == "log" and seen["event"] == "core_forked":
            counts["forks"] += 1
    counts["virtual seconds"] = round(evidence.seen.seen[-1].at_s)
    return counts


def relevant_lines(evidence: Evidence, violations: list[Violation]) -> list[str]:
    """What the trace says of the actions concerned, and of everything that concerns all."""
    names = {violation.action_id for violation in violations[:VIOLATIONS_SHOWN_MAX]} - {""}
    chosen = [
        str(seen)[:LINE_CHARS_MAX]
        for seen in evidence.seen.seen
        if seen.what in EVERYWHERE
        or (seen.what == "log" and seen["event"] in ALWAYS_LOGGED)
        or any(name in str(seen) for name in names)
    ]
    return chosen[-LINES_SHOWN_MAX:]


def _batches(first: int, count: int, minutes: float) -> Iterator[range]:
    """Seeds in portions: a pool takes its work ahead of time, and a clock must stop it."""
    until = time.monotonic() + minutes * 60
    begin = first
    while (time.monotonic() < until) if minutes else (begin < first + count):
        end = begin + BATCH if minutes else min(begin + BATCH, first + count)
        yield range(begin, end)
        begin = end


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=100, show_default=True)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True)
@click.option("--minutes", type=click.FloatRange(0), default=0.0, help="Instead of --seeds.")
@click.option("--actions", type=click.IntRange(1), default=20, show_default=True)
@click.option("--rules", type=click.IntRange(0), default=0, help="Recurring actions besides.")
@click.option("--people", type=click.IntRange(0), default=0, help="Cases for approvers besides.")
@click.option("--jobs", type=click.IntRange(1), default=multiprocessing.cpu_count)
@click.option("--trace", is_flag=True, help="Print the whole trace of every seed.")
def main(
    seeds: int, first: int, minutes: float, actions: int, rules: int, people: int, jobs: int,
    trace: bool,
) -> None:  # fmt: skip
    """Simulate the whole system from seeds and check its promises."""
    begun = time.monotonic()
    totals: Counter[str] = Counter()
    failed: list[int] = []
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for batch in _batches(first, seeds, minutes):
            work = [(seed, actions, rules, people, trace) for seed in batch]
            for report in pool.imap(_run, work):
                totals += report.counts
                totals["seeds"] += 1
                if trace or report.violations:
                    _show(report, actions, rules, people)
                if report.violations:
                    failed.append(report.seed)
            if len(failed) >= FAILED_SEEDS_MAX:
                break
    _sum_up(totals, time.monotonic() - begun)
    if failed:
        click.echo(f"promises were broken in seeds {', '.join(map(str, failed))}")
        sys.exit(1)
    click.echo("every promise held")


def _run(work: tuple[int, int, int, int, bool]) -> Report:
    seed, actions, rules, people, trace = work
    return run_seed(seed, actions=actions, rules=rules, people=people, trace=trace)


def _show(report: Report, actions: int, rules: int, people: int) -> None:
    click.echo(f"\nseed {report.seed}, trace {report.digest}")
    for line in report.lines:
        click.echo(f"  {line}")
    for violation in report.violations[:VIOLATIONS_SHOWN_MAX]:
        click.echo(f"BROKEN {str(violation)[:2000]}")
    more = len(report.violations) - VIOLATIONS_SHOWN_MAX
    if more > 0:
        click.echo(f"… and {more} more")
    if report.violations:
        again = f"--first {report.seed} --seeds 1 --actions {actions} --rules {rules}"
        again += f" --people {people} --trace"
        click.echo(f"repeat: scripts/simulate {again}")


def _sum_up(totals: Counter[str], took_s: float) -> None:
    seeds = totals.pop("seeds")
    click.echo(f"\n{seeds} seeds in {took_s:.1f} s ({seeds / took_s:.1f} per second); tried:")
    for name, count in sorted(totals.items()):
        click.echo(f"  {count:9,} {name}")


if __name__ == "__main__":
    main()
