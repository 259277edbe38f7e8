"""Subscribe, read, wait: nothing that happens in between is missed."""

from __future__ import annotations

import asyncio

from agent.core.tokens import digest_of, matches
from agent.core.wakeups import EVENTS, Wakeups, agent_topic


def test_what_came_before_the_wait_is_not_missed() -> None:
    async def play() -> bool:
        wakeups = Wakeups()
        with wakeups.subscribed(agent_topic("n")) as waiter:
            wakeups.notify([agent_topic("n")])
            return await waiter.wait_until(asyncio.get_running_loop().time() + 5)

    assert asyncio.run(play())


def test_others_are_not_woken_and_nothing_is_kept() -> None:
    async def play() -> bool:
        wakeups = Wakeups()
        with wakeups.subscribed(EVENTS) as waiter:
            wakeups.notify([agent_topic("n")])
            woken = await waiter.wait_until(asyncio.get_running_loop().time() + 0.05)
        assert wakeups._waiters == {}
        return woken

    assert not asyncio.run(play())


def test_closing_sends_everybody_home() -> None:
    async def play() -> bool:
        wakeups = Wakeups()
        with wakeups.subscribed(EVENTS) as waiter:
            asyncio.get_running_loop().call_later(0.05, wakeups.close)
            return await waiter.wait_until(asyncio.get_running_loop().time() + 5)

    assert not asyncio.run(play())


def test_tokens_match_by_digest_alone() -> None:
    digest = digest_of("secret")
    assert matches(digest, ["0" * 64, digest])
    assert not matches(digest_of("Secret"), [digest])
    assert not matches(digest, [])


def test_waiters_are_woken_in_the_order_in_which_they_came() -> None:
    """A simulation repeats itself from its seed only if this does."""

    async def play() -> list[int]:
        wakeups = Wakeups()
        woken: list[int] = []

        async def wait(number: int) -> None:
            with wakeups.subscribed(EVENTS) as waiter:
                await waiter.wait_until(asyncio.get_running_loop().time() + 5)
                woken.append(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(200)]
        await asyncio.sleep(0)
        wakeups.notify([EVENTS])
        await asyncio.gather(*tasks)
        return woken

    assert asyncio.run(play()) == list(range(200))
