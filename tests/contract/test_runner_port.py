"""One suite for `agent.node.ports.Runner`: the real runner over its socket, and the fake.

What the simulation believes of a runner is believed of the real one, or fails here.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from agent.domain.ending import RunState
from agent.node.ports import RunKey, RunnerAway, RunnerOvertaken, RunnerRefused, StartRecord
from tests.fakes.runners import Client, MakeClient, fake_runner, key, real_runner, soon

pytestmark = pytest.mark.timeout(60)
Door = Callable[[], AbstractAsyncContextManager[MakeClient]]
Scenario = Callable[[MakeClient, Client], Awaitable[None]]


@pytest.fixture(params=["real", "fake"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Door:
    tmp_path.chmod(0o755)
    return (lambda: real_runner(tmp_path)) if request.param == "real" else fake_runner


def scenario(play: Scenario) -> Callable[[Door], None]:
    """A test that is given a way to connect, and a client that has said hello."""

    @functools.wraps(play)
    def test(door: Door) -> None:
        async def run() -> None:
            async with door() as make:
                client = make()
                await client.connect()
                await play(make, client)
                await client.port.close()

        asyncio.run(run())

    del test.__wrapped__
    return test


@scenario
async def test_a_new_runner_has_nothing(make: MakeClient, client: Client) -> None:
    hello = await make().connect()
    assert (hello.max_row, hello.running) == (0, ())


@scenario
async def test_without_a_connection_it_is_away(make: MakeClient, client: Client) -> None:
    with pytest.raises(RunnerAway):
        await make().port.claim(key(1))


@scenario
async def test_a_script_runs_and_its_end_is_told(make: MakeClient, client: Client) -> None:
    await client.start(1, "tiny")
    record = await client.exit_of(1)
    assert (record.code, record.signal, record.stop_cause) == (0, None, "none")
    assert record.started_at is not None
    assert record.started_at <= record.ended_at
    assert (await client.port.claim(key(1))).record is not None


@scenario
async def test_its_exit_code_is_true(make: MakeClient, client: Client) -> None:
    await client.start(1, "fail", payload={"code": 7})
    assert (await client.exit_of(1)).code == 7


@scenario
async def test_asked_twice_it_starts_once(make: MakeClient, client: Client) -> None:
    first = await client.start(1, "sleep", payload={"seconds": 0.3})
    second = await client.start(1, "sleep", payload={"seconds": 0.3})
    assert first.state is second.state is RunState.RUNNING
    assert first.pid == second.pid
    record = await client.exit_of(1)
    third = await client.start(1, "sleep", payload={"seconds": 0.3})
    assert third.state is RunState.EXITED
    assert third.record is not None
    assert third.record.started_at == record.started_at


@scenario
async def test_the_next_start_number_is_another_run(make: MakeClient, client: Client) -> None:
    await client.start(1, "tiny")
    await client.exit_of(1)
    await client.start(1, "fail", key=key(1, 2), attempt=2)
    assert (await client.exit_of(1, 2)).code == 1


@scenario
async def test_what_was_claimed_unstarted_never_starts(make: MakeClient, client: Client) -> None:
    assert (await client.port.claim(key(1))).state is RunState.NEVER_STARTED
    assert (await client.start(1, "tiny")).state is RunState.NEVER_STARTED
    assert (await client.port.claim(key(1))).state is RunState.NEVER_STARTED
    await client.start(2, "tiny")
    await client.exit_of(2)
    assert key(1) not in client.listener.records


@scenario
async def test_a_claim_finds_what_runs(make: MakeClient, client: Client) -> None:
    started = await client.start(1, "sleep", payload={"seconds": 30})
    claimed = await client.port.claim(key(1))
    assert (claimed.state, claimed.pid) == (RunState.RUNNING, started.pid)


@scenario
async def test_a_key_belongs_to_one_action(make: MakeClient, client: Client) -> None:
    await client.start(1, "tiny")
    await client.exit_of(1)
    with pytest.raises(RunnerRefused) as refused:
        await client.port.claim(RunKey(1, 1, "somebody-else"))
    assert refused.value.code == "conflict"


@scenario
async def test_a_lower_generation_is_refused(make: MakeClient, client: Client) -> None:
    newer = make()
    await newer.connect(generation=5)
    with pytest.raises(RunnerOvertaken):
        await make().connect(generation=4)
    with pytest.raises(RunnerOvertaken):
        await client.start(1, "tiny")
    assert (await newer.port.claim(key(1))).state is RunState.NEVER_STARTED
    await newer.port.close()


@scenario
async def test_runs_outlive_their_agentd(make: MakeClient, client: Client) -> None:
    await client.start(3, "sleep", payload={"seconds": 0.5})
    await client.port.close()
    next_one = make()
    hello = await next_one.connect(generation=2)
    assert (hello.max_row, hello.running) == (3, (key(3),))
    assert (await next_one.exit_of(3)).code == 0
    await next_one.port.close()


@scenario
async def test_stop_ends_it_with_its_cause(make: MakeClient, client: Client) -> None:
    await client.start(1, "sleep", payload={"seconds": 30})
    await client.port.stop(key(1), "withdrawn", 5.0)
    record = await client.exit_of(1)
    assert (record.stop_cause, record.signal, record.code) == ("withdrawn", 15, None)
    assert record.stopped_at is not None
    assert record.stopped_at <= record.ended_at
    assert record.killed_at is None


@scenario
async def test_what_ignores_term_is_killed_after_the_grace(
    make: MakeClient, client: Client
) -> None:
    await client.start(1, "stubborn", payload={"seconds": 30})
    await asyncio.sleep(0.3)  # until its trap is set
    await client.port.stop(key(1), "overlap", 0.3)
    record = await client.exit_of(1)
    assert (record.stop_cause, record.signal) == ("overlap", 9)
    assert record.stopped_at is not None
    assert record.killed_at is not None
    assert 0.2 < (record.killed_at - record.stopped_at).total_seconds() < 5


@scenario
async def test_the_first_cause_stands_and_a_second_stop_hurries(
    make: MakeClient, client: Client
) -> None:
    await client.start(1, "stubborn", payload={"seconds": 30})
    await asyncio.sleep(0.3)
    await client.port.stop(key(1), "withdrawn", 20.0)
    await client.port.stop(key(1), "cancelled_on_node", 0.1)
    record = await client.exit_of(1)
    assert (record.stop_cause, record.signal) == ("withdrawn", 9)


@scenario
async def test_stopping_what_has_ended_changes_nothing(make: MakeClient, client: Client) -> None:
    await client.start(1, "tiny")
    await client.exit_of(1)
    assert await client.port.stop(key(1), "withdrawn", 1.0) is RunState.EXITED
    status = await client.port.claim(key(1))
    assert status.record is not None
    assert (status.record.stop_cause, status.record.code) == ("none", 0)


@scenario
async def test_stopping_what_nobody_knows_is_refused(make: MakeClient, client: Client) -> None:
    with pytest.raises(RunnerRefused) as refused:
        await client.port.stop(key(9), "withdrawn", 1.0)
    assert refused.value.code == "unknown_run"


@scenario
async def test_the_runner_keeps_the_timeout(make: MakeClient, client: Client) -> None:
    await client.start(1, "sleep", payload={"seconds": 30}, timeout_s=0.2)
    assert (await client.exit_of(1)).stop_cause == "timeout"


@scenario
async def test_the_runner_keeps_the_window(make: MakeClient, client: Client) -> None:
    await client.start(1, "sleep", payload={"seconds": 30}, stop_at=soon(0.3))
    assert (await client.exit_of(1)).stop_cause == "window"


@scenario
async def test_a_window_can_be_moved_both_ways(make: MakeClient, client: Client) -> None:
    await client.start(1, "sleep", payload={"seconds": 30})
    await client.start(2, "sleep", payload={"seconds": 0.6}, stop_at=soon(0.3))
    await client.port.set_deadline(key(1), soon(0.1))
    await client.port.set_deadline(key(2), None)
    assert (await client.exit_of(1)).stop_cause == "window"
    assert (await client.exit_of(2)).stop_cause == "none"


@scenario
async def test_after_its_window_nothing_starts(make: MakeClient, client: Client) -> None:
    """The window closed while the request was on its way: a tombstone, and no start ever."""
    late = await client.start(1, "tiny", stop_at=soon(-0.1))
    assert late.state is RunState.NEVER_STARTED
    assert (await client.start(1, "tiny")).state is RunState.NEVER_STARTED


@scenario
async def test_what_cannot_start_says_why(make: MakeClient, client: Client) -> None:
    unknown = await client.start(1, "nobody.knows.it")
    dry = await client.start(2, "sleep", payload={"seconds": 1}, dry_run=True)
    for status, code in ((unknown, "unknown_kind"), (dry, "dry_run_unsupported")):
        assert status.state is RunState.EXITED
        assert status.record is not None
        assert (status.record.spawn_error or "").startswith(code)


@scenario
async def test_the_catalogue_is_told_once(make: MakeClient, client: Client) -> None:
    catalogue = await client.port.kinds(None)
    assert catalogue is not None
    assert catalogue.kinds["sleep"].parallel
    assert not catalogue.kinds["sleep_exclusive"].parallel
    assert catalogue.kinds["never_twice"].on_restart == "never"
    assert catalogue.kinds["stubborn"].grace_s == 1
    assert await client.port.kinds(catalogue.digest) is None


@scenario
async def test_output_is_read_in_pieces(make: MakeClient, client: Client) -> None:
    await client.start(1, "chatty", payload={"bytes": 100})
    await client.exit_of(1)
    first = await client.port.output(key(1), "stdout", 0, 40)
    assert (first.offset, len(first.data), first.total, first.done) == (0, 40, 100, False)
    rest = await client.port.output(key(1), "stdout", first.next_offset, 4096)
    assert (rest.offset, rest.next_offset, rest.done) == (40, 100, True)
    assert (first.data + rest.data)[16:32] == b"000000000000016\n"
    assert (await client.port.output(key(1), "stderr", 0, 40)).total == 0


@scenario
async def test_records_stay_until_they_are_forgotten(make: MakeClient, client: Client) -> None:
    await client.start(1, "tiny")
    await client.start(2, "sleep", payload={"seconds": 30})
    await client.exit_of(1)
    await client.port.collected([key(1)])
    assert (await client.port.claim(key(1))).state is RunState.EXITED
    await client.port.forget([(1, 1), (2, 1)])
    assert (await client.port.claim(key(1))).state is RunState.NEVER_STARTED
    assert (await client.port.claim(key(2))).state is RunState.RUNNING, "it runs: kept"


@scenario
async def test_progress_of_those_that_say_none(make: MakeClient, client: Client) -> None:
    await client.start(1, "sleep", payload={"seconds": 30})
    assert dict(await client.port.progress([key(1)])) == {}


@scenario
async def test_every_start_is_on_file_in_order(make: MakeClient, client: Client) -> None:
    for row in (3, 1, 2):
        await client.start(row, "tiny")
        await client.exit_of(row)
    await client.start(2, "tiny", key=key(2, 2), attempt=2)
    await client.port.claim(key(9))
    found: list[StartRecord] = []
    after = None
    while True:
        page, after = await client.port.records(after)
        found += page
        if after is None:
            break
    assert [(one.key.row, one.key.start_no, one.attempt) for one in found] == [
        (1, 1, 1), (2, 1, 1), (2, 2, 2), (3, 1, 1),
    ]  # fmt: skip
    assert {one.kind for one in found} == {"tiny"}
    assert found[0].key == key(1)
    await client.port.forget([(1, 1)])
    assert (await client.port.records(None))[0][0] == found[1]
