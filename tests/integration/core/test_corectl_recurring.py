"""`corectl recurring` against a real core: words, JSON, exit codes."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from tests.fakes.core_backends import OverHttp
from tests.fakes.core_process import CoreProcess
from tests.fakes.reporting_node import ReportingNode
from tests.integration.core.test_corectl import corectl, document

pytestmark = pytest.mark.timeout(60)


def enrolled(core: CoreProcess) -> str:
    """A node that has not reported what it can run: it is believed."""

    async def enroll() -> str:
        async with OverHttp.to(core) as backend:
            return (await ReportingNode.enrolled(backend)).id

    return asyncio.run(enroll())


def test_from_its_creation_to_its_end(shared_core: CoreProcess) -> None:
    node, name = enrolled(shared_core), f"r-{secrets.token_hex(4)}"
    checked = corectl(
        shared_core, "recurring", "create", "sleep", "--id", name, "--node", node,
        "--every", "10m", "--check",
    )  # fmt: skip
    assert checked.stdout == f"{name} scheduled (only checked: nothing was changed)\n"
    made = corectl(
        shared_core, "recurring", "create", "sleep", "--id", name, "--node", node,
        "--every", "10m", "--overlap", "queue", "--payload", '{"seconds": 1}',
    )  # fmt: skip
    assert made.stdout == f"{name} active on 1 node, revision 1\n", made.stderr
    listed = corectl(shared_core, "recurring", "list", "--node", node)
    assert listed.stdout.splitlines()[1].split()[:4] == [name, "sleep", node, "active"]
    shown = corectl(shared_core, "recurring", "show", name)
    assert "every 10m" in shown.stdout
    assert "not reported yet" in shown.stdout

    updated = document(
        corectl(shared_core, "recurring", "update", name, "--cron", "0 3 * * *", "--json")
    )
    assert updated["revision"] == 2
    assert updated["schedule"]["cron"] == "0 3 * * *"
    assert updated["schedule"]["overlap"] == "queue", "what is not given is kept"
    assert updated["payload"] == {"seconds": 1}

    assert "is paused" in corectl(shared_core, "recurring", "pause", name, "--reason", "x").stdout
    told = corectl(shared_core, "recurring", "forecast", name, "--until", "+2d")
    assert "paused: x" in told.stdout
    assert document(corectl(shared_core, "recurring", "resume", name, "--json"))["paused"] is None

    filled = corectl(
        shared_core, "recurring", "backfill", name, "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"
    )
    assert len(filled.stdout.splitlines()) == 2
    assert f"{name}@2026-01-02T03:00:00Z.b10001 on {node}" in filled.stdout
    assert corectl(shared_core, "recurring", "run", name).stdout.endswith(f".b10002 on {node}\n")
    history = corectl(shared_core, "recurring", "history", name, "--node", node)
    assert len(history.stdout.splitlines()) == 4
    assert corectl(shared_core, "recurring", "delete", name).stdout == f"{name} is deleted\n"
    assert name not in corectl(shared_core, "recurring", "list").stdout
    assert name in corectl(shared_core, "recurring", "list", "--deleted").stdout


def test_for_all_that_match(shared_core: CoreProcess) -> None:
    name = f"r-{secrets.token_hex(4)}"
    made = document(
        corectl(
            shared_core, "recurring", "create", "sleep", "--id", name, "--schedule", "at 3:00",
            "--selector", f"x={name}", "--json",
        )
    )  # fmt: skip
    assert (made["selector"], made["nodes"]["count"]) == (f"x={name}", 0)
    shown = corectl(shared_core, "recurring", "show", name).stdout
    assert f"every node that matches x={name}" in shown
    assert "nothing until" in corectl(shared_core, "recurring", "forecast", name).stdout


def test_mistakes_say_what_to_do(shared_core: CoreProcess) -> None:
    node = enrolled(shared_core)
    missing = corectl(shared_core, "recurring", "show", "nothing")
    assert (missing.returncode, "corectl recurring list" in missing.stderr) == (4, True)
    unplanned = corectl(shared_core, "recurring", "create", "sleep", "--node", node)
    assert (unplanned.returncode, "--cron" in unplanned.stderr) == (2, True)
    bad = corectl(
        shared_core, "recurring", "create", "sleep", "--node", node, "--cron", "61 * * * *",
        "--timezone", "Mars/Olympus",
    )  # fmt: skip
    assert bad.returncode in (2, 5)
    assert "Mars/Olympus" in bad.stderr
    assert "61" in bad.stderr
    unchanged = corectl(shared_core, "recurring", "update", "nothing")
    assert (unchanged.returncode, "nothing to change" in unchanged.stderr) == (2, True)
