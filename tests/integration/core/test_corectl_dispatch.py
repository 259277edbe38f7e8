"""`corectl dispatch` to several, `retry`, `reschedule`, `cancel --correlation-id`."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.core_backends import OverHttp
from tests.fakes.core_process import CoreProcess
from tests.fakes.reporting_node import ReportingNode
from tests.integration.core.test_corectl import corectl, document

pytestmark = pytest.mark.timeout(90)


async def _enrolled(core: CoreProcess, *names: str) -> None:
    async with OverHttp.to(core) as backend:
        for _ in names:
            await ReportingNode.enrolled(backend)


async def _fail(core: CoreProcess) -> tuple[str, str]:
    """A node, and an action of it that failed."""
    async with OverHttp.to(core) as backend:
        node = await ReportingNode.enrolled(backend)
        made = await backend.dispatch({"kind": "job", "node": node.id, "correlation_id": "night"})
        name = str(made["action_id"])
        node.moved(name, "NULL", "STARTED", "due", attempt=1)
        node.moved(name, "STARTED", "FAILED", "exit_nonzero", attempt=1, exit_code=7)
        await node.push()
        return node.id, name


def test_one_command_reaches_several_nodes(shared_core: CoreProcess) -> None:
    asyncio.run(_enrolled(shared_core, "a", "b"))
    told = corectl(shared_core, "dispatch", "sleep", "--selector", "node", "--in", "1h",
                   "--correlation-id", "many", "--dedup-key", "once")  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "scheduled on 2 nodes, correlation id many" in told.stdout
    again = corectl(shared_core, "dispatch", "sleep", "--selector", "node", "--dedup-key", "once")
    assert "deduplicated on 2 nodes" in again.stdout
    any_one = corectl(shared_core, "dispatch", "sleep", "--selector", "node", "--any", "--in", "1h",
                      "--correlation-id", "many")  # fmt: skip
    assert " scheduled on " in any_one.stdout
    listed = document(corectl(shared_core, "actions", "--correlation-id", "many", "--json"))
    assert len(listed["actions"]) == 3
    off = corectl(shared_core, "cancel", "--correlation-id", "many", "--reason", "acknowledged")
    assert (off.returncode, off.stdout.count("CANCELLED")) == (0, 3), off.stdout
    since = corectl(shared_core, "actions", "--since", "1h", "--until", "+1h", "--json")
    assert len(document(since)["actions"]) >= 3


def test_what_waits_is_told_with_what_to_do(shared_core: CoreProcess) -> None:
    node, _ = asyncio.run(_fail(shared_core))
    told = corectl(shared_core, "dispatch", "wipe", "--node", node, "--risk", "dangerous")
    assert told.returncode == 0
    assert "waits for approval" in told.stdout
    assert "corectl approve" in told.stdout
    dry = corectl(
        shared_core, "dispatch", "wipe", "--node", node, "--risk", "dangerous", "--dry-run"
    )
    assert "would wait for approval on" in dry.stdout
    assert "dry run" in dry.stdout
    done = corectl(
        shared_core, "dispatch", "wipe", "--node", node, "--risk", "dangerous", "--approve"
    )
    assert f"queued on {node}, approved by admin" in done.stdout


def test_again_and_later(shared_core: CoreProcess) -> None:
    _, name = asyncio.run(_fail(shared_core))
    told = corectl(shared_core, "retry", name, "--in", "2h", "--until", "+4h")
    assert "scheduled for" in told.stdout, told.stderr
    made = told.stdout.split()[0]
    found = corectl(shared_core, "reschedule", made, "--in", "3h", "--reason", "too early")
    assert (found.returncode, "SCHEDULED for" in found.stdout) == (0, True), found.stderr
    assert document(corectl(shared_core, "show", made, "--json"))["retry_of"] == name
    early = corectl(shared_core, "retry", made)
    assert (early.returncode, "SCHEDULED" in early.stderr) == (5, True)
    assert corectl(shared_core, "reschedule", name, "--in", "1h").returncode == 5
    for words, code, text in (
        (["reschedule", made], 2, "--at or --in"),
        (["reschedule", "nobody", "--in", "1h"], 4, "no action"),
        (["retry", "nobody"], 4, "no action"),
        (["cancel"], 2, "--correlation-id"),
        (["cancel", made, "--correlation-id", "x"], 2, "one of them"),
        (["cancel", "--correlation-id", "nothing like it"], 4, "correlation id"),
        (["dispatch", "job"], 2, "--selector"),
        (["dispatch", "job", "--label", "role"], 2, "key=value"),
        (["dispatch", "job", "--selector", "a=="], 5, "selector"),
        (["dispatch", "job", "--selector", "nobody=there"], 5, "no node matches"),
        (["actions", "--since", "yesterday"], 2, "--since"),
    ):
        refused = corectl(shared_core, *words)
        assert (refused.returncode, text in refused.stderr) == (code, True), (words, refused.stderr)
