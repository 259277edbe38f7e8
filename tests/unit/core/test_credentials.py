"""The check in front of the node protocol: which credential is believed, and which no longer."""

from __future__ import annotations

import asyncio
import secrets
from typing import TypeVar

import pytest

from agent.core.nodes.credentials import Credentials
from agent.core.nodes.enrolment import create_token, enroll, first_use
from agent.core.occasion import Occasion
from agent.core.store.inline import InlineStore
from agent.core.store.port import Work
from agent.core.tokens import digest_of
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
            await Credentials(store).require(slow, "n", occasion, 0.0)
        assert caught.value.code == "unauthorized"
        await Credentials(store).require(quick, "n", occasion, 0.0)

    asyncio.run(play())
