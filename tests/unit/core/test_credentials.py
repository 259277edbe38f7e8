"""The check in front of the node protocol: which credential is believed, and which no longer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import TypeVar

import pytest

from agent.core.nodes.credentials import TRUST_S, Credentials
from agent.core.nodes.decommission import decommission
from agent.core.nodes.enrolment import create_token, enroll, first_use
from agent.core.occasion import Occasion
from agent.core.store.inline import InlineStore
from agent.core.store.port import Work
from agent.core.tokens import digest_of
from agent.core.wakeups import EVERYBODY, Topic, Wakeups
from agent.domain.errors import Refused
from agent.wire.messages import Enroll
from tests.fakes.core_backends import SteppedClock

T = TypeVar("T")


class Overtaken(InlineStore):
    """Something else commits between a read and the write that follows from it."""

    between: Work[object] | None = None

    async def write(self, work: Work[T]) -> T:
        if self.between is not None:
            meanwhile, self.between = self.between, None
            await super().write(meanwhile)
        return await super().write(work)


def test_two_first_uses_at_once_leave_one_credential_and_not_none() -> None:
    async def play() -> None:
        occasion = Occasion(SteppedClock().now(), secrets.randbits)
        store = Overtaken.in_memory()
        assert isinstance(store, Overtaken)
        token, _ = await store.write(lambda c: create_token(c, occasion, "n", 60.0))
        message = Enroll(token=token, nonce="x")
        slow, quick = [
            (await store.write(lambda c: enroll(c, occasion, message))).credential for _ in range(2)
        ]
        store.between = lambda c: first_use(c, occasion, digest_of(quick), "n")
        with pytest.raises(Refused) as caught:
            await Credentials(store, Wakeups()).require(slow, "n", occasion, 0.0)
        assert caught.value.code == "unauthorized"
        await Credentials(store, Wakeups()).require(quick, "n", occasion, 0.0)

    asyncio.run(play())


def test_every_core_forgets_what_another_has_revoked() -> None:
    async def play() -> None:
        occasion = Occasion(SteppedClock().now(), secrets.randbits)
        store = InlineStore.in_memory()
        here, there, deaf = Wakeups(), Wakeups(), Wakeups()

        def tell(topics: Iterable[Topic]) -> None:
            found = list(topics)
            here.hear(found)
            there.hear(found)

        store.on_announced = tell
        checks = [Credentials(store, wakeups) for wakeups in (here, there, deaf)]

        async def issue() -> str:
            token, _ = await store.write(lambda c: create_token(c, occasion, "n", 60.0))
            message = Enroll(token=token, nonce="x")
            return (await store.write(lambda c: enroll(c, occasion, message))).credential

        async def believed(credential: str, now_s: float) -> list[bool]:
            found = []
            for check in checks:
                try:
                    await check.require(credential, "n", occasion, now_s)
                    found.append(True)
                except Refused as error:
                    found.append(error.code != "unauthorized")
            return found

        old = await issue()
        for _ in range(2):
            assert await believed(old, 0.0) == [True] * 3
        new = await issue()
        assert await believed(old, 1.0) == [True] * 3, "nobody has used the new one yet"
        await checks[0].require(new, "n", occasion, 1.0)
        assert await believed(old, 1.0) == [False, False, True]
        assert await believed(old, 1.0 + TRUST_S) == [False, False, False], "a bound even then"
        assert await believed(new, 1.0) == [True] * 3
        await store.write(lambda c: decommission(c, occasion, "n", "admin", "sold"))
        deaf.hear([EVERYBODY])
        assert await believed(new, 1.0) == [False] * 3

    asyncio.run(play())
