"""Judgement on the running daemon: runner, runs, catalogue, core, clock, backup. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.domain.spans import between_text, instant_text
from agent.node.doctor.check import Check, fail, ok, warn
from agent.node.ports import RunnerReport

BACKUP_OLD = timedelta(days=2)  # nightly: one that failed is an accident, two are a fault
UNCOLLECTED_MANY = 100  # records whose end is told but not committed; normally none
PULL_OLD = timedelta(minutes=10)  # a long poll ends within a minute
IN_CGROUPS = "cgroup"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningFound:
    """Everything that these checks judge. `started` and `known`: (row, start_no) of the rows that
    are STARTED, and of the runs that the engine watches.
    """

    own_version: str
    runner: RunnerReport | None
    runner_problem: str | None
    started: frozenset[tuple[int, int]]
    known: frozenset[tuple[int, int]]
    store_problem: str | None
    kinds: int
    kind_faults: tuple[str, ...]
    core_url: str | None
    core_enrolled: bool
    core_connected: bool
    core_fenced: bool
    core_polling: bool
    core_problem: str | None
    last_pull_at: datetime | None
    clock_synchronised: bool
    clock_doubt: str | None
    backup_at: datetime | None
    backups_wanted: bool = True


def judge_running(found: RunningFound, now: datetime) -> Iterator[Check]:
    """One check after another."""
    yield judge_store(found.store_problem)
    yield judge_backup(found, now)
    yield judge_runner(found)
    yield judge_containment(found.runner)
    yield judge_runs(found)
    yield judge_uncollected(found.runner)
    yield judge_catalogue(found.kinds, found.kind_faults)
    yield judge_core(found, now)
    yield judge_clock(found.clock_synchronised, found.clock_doubt)


def judge_store(problem: str | None) -> Check:
    """Whether the database can be written."""
    name = "database_writable"
    if problem is None:
        return ok(name, "the last transaction was committed")
    return fail(name, problem, "make room or mend the disk; it is tried again every two seconds")


def judge_backup(found: RunningFound, now: datetime) -> Check:
    """Age of the last verified backup."""
    name = "backup"
    if not found.backups_wanted:
        return ok(name, "none are made here (backups_kept = 0): a damaged database begins empty")
    if found.backup_at is None:
        return warn(
            name,
            "there is no verified backup yet",
            "one is made soon after a start; if it stays so, see backup_failed in the log",
        )
    told = f"the last verified backup is of {instant_text(found.backup_at)}"
    told += f", {between_text(found.backup_at, now)} old"
    if now - found.backup_at > BACKUP_OLD:
        return warn(name, told, "see the log (backup_failed): is there room for one?")
    return ok(name, told)


def judge_runner(found: RunningFound) -> Check:
    """Connected, and of our version."""
    name, runner = "runner", found.runner
    if runner is None:
        return fail(
            name,
            f"the runner does not answer: {found.runner_problem or 'no reason known'}",
            "nothing starts without it: systemctl status agent-runner, or runner.log",
        )
    told = f"runner {runner.version} with pid {runner.pid}"
    if found.runner_problem is not None:
        return fail(
            name,
            f"{told} answers, but: {found.runner_problem}",
            "nothing starts until it is mended",
        )
    if runner.version != found.own_version:
        return warn(
            name,
            f"{told}, while agentd is {found.own_version}",
            "it speaks our protocol; restart it when nothing runs to have its fixes",
        )
    return ok(name, told)


def judge_containment(runner: RunnerReport | None) -> Check:
    """Whether a stop can leave anything behind, and whether it has."""
    name = "containment"
    if runner is None or runner.containment is None:
        return warn(name, "not known: the runner does not say", "see the check `runner`")
    if runner.survivors:
        return fail(
            name,
            f"{runner.survivors} processes could not be ended by a stop",
            "the log of the runner names them; look at them and end them by hand",
        )
    if runner.containment == IN_CGROUPS:
        return ok(name, "each attempt has a cgroup of its own: nothing survives a stop")
    return warn(
        name,
        "no cgroup is delegated: what leaves its session and its ancestry can survive a stop",
        "run the runner under systemd with Delegate=yes, as the shipped unit does",
    )


def judge_runs(found: RunningFound) -> Check:
    """Rows against processes."""
    name = "runs"
    lost = found.started - found.known
    strange = found.known - found.started
    if lost or strange:
        told = [f"{len(lost)} actions are STARTED and nobody watches them"] if lost else []
        told += [f"{len(strange)} runs are watched whose action is not STARTED"] if strange else []
        rows = ", ".join(str(row) for row, _ in sorted(lost | strange)[:10])
        return fail(
            name,
            f"{'; '.join(told)} (rows {rows})",
            "restart agentd: it asks the runner about each of them, and scripts run on",
        )
    if found.runner is not None and found.runner.running != len(found.started):
        return warn(
            name,
            f"{len(found.started)} actions are STARTED and the runner has {found.runner.running} "
            "scripts",
            "look again in a minute; if it stays, the log tells of strangers (runner_stranger)",
        )
    return ok(name, f"{len(found.started)} actions are STARTED, and each has its run")


def judge_uncollected(runner: RunnerReport | None) -> Check:
    """Exit records whose end agentd has not taken."""
    name = "uncollected_records"
    if runner is None:
        return warn(name, "not known while the runner is away", "see the check `runner`")
    one = runner.uncollected == 1
    told = f"{runner.uncollected} {'run has' if one else 'runs have'} ended, not settled yet"
    if runner.uncollected < UNCOLLECTED_MANY:
        return ok(name, told)
    return warn(name, told, "is the database slow or failing? see `database_writable`")


def judge_catalogue(kinds: int, faults: tuple[str, ...]) -> Check:
    """Kinds that cannot be used: modes, owners, manifests."""
    name = "catalogue"
    if faults:
        return fail(
            name,
            "\n".join([f"{len(faults)} fault{'s'[: len(faults) != 1]}", *faults[:5]]),
            "`agentctl kinds` shows all; actions of these kinds cannot start",
        )
    if not kinds:
        return warn(name, "there is no kind on this node", "install scripts into scripts_dir")
    return ok(name, f"{kinds} kinds, and each can be started")


def judge_core(found: RunningFound, now: datetime) -> Check:
    """Reachable, and ours."""
    name = "core"
    if found.core_url is None:
        return ok(name, "this node works alone")
    if found.core_fenced:
        return fail(
            name,
            "fenced: another agentd with this credential has taken over",
            "a cloned disk? remove `credential` on the clone and enrol it under its own name",
        )
    if not found.core_enrolled:
        told = found.core_problem or "not enrolled"
        return fail(name, told, "corectl enroll-token, then start agentd with --enroll-token once")
    if not found.core_connected:
        since = found.last_pull_at
        told = "never reached since the start" if since is None else "not reached since "
        told += "" if since is None else instant_text(since)
        why = f" ({found.core_problem})" if found.core_problem else ""
        return warn(name, f"{told}{why}", "what is known runs on time; mend the way to the core")
    if found.core_problem is not None:
        return warn(name, f"connected, but: {found.core_problem}", "see the log (core_refused)")
    if found.core_polling:
        return warn(
            name, "reached by polling: long polls are cut", "raise the proxy's timeout above 60 s"
        )
    if found.last_pull_at is not None and now - found.last_pull_at > PULL_OLD:
        old = between_text(found.last_pull_at, now)
        return warn(name, f"connected, but the last pull is {old} old", "restart agentd")
    return ok(name, f"connected to {found.core_url}")


def judge_clock(synchronised: bool, doubt: str | None) -> Check:
    """Whether due times can be believed."""
    name = "clock"
    if doubt is not None:
        return fail(
            name,
            f"doubtful: {doubt}",
            "nothing starts by it for ten minutes at most; set it, or start a time daemon",
        )
    if not synchronised:
        return warn(
            name,
            "the kernel does not call it synchronised",
            "run a time daemon (systemd-timesyncd, chrony), or due times drift",
        )
    return ok(name, "synchronised, says the kernel")
