"""Large bodies are decoded off the loop, one at a time, and all together are bounded."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from agent.domain.errors import Refused
from agent.infra import intake as intake_module
from agent.infra.intake import DECODED_ON_LOOP_BYTES_MAX, Intake


def test_only_large_ones_leave_the_loop() -> None:
    async def play() -> None:
        intake, here = Intake(), threading.get_ident()
        large = bytes(DECODED_ON_LOOP_BYTES_MAX + 1)
        assert await intake.decode(large[1:], lambda _: threading.get_ident()) == here
        assert await intake.decode(large, lambda _: threading.get_ident()) != here
        with pytest.raises(ValueError, match="bad"):
            await intake.decode(large, lambda _: int("bad", 10))

    asyncio.run(play())


def test_one_at_a_time() -> None:
    async def play() -> None:
        intake, at_once, most = Intake(), 0, 0

        def decode(_: bytes) -> None:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            time.sleep(0.01)
            at_once -= 1

        large = bytes(DECODED_ON_LOOP_BYTES_MAX + 1)
        await asyncio.gather(*(intake.decode(large, decode) for _ in range(5)))
        assert most == 1

    asyncio.run(play())


def test_what_is_held_is_bounded_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "HELD_BYTES_MAX", 10)
    intake = Intake()
    with intake.holding() as one, intake.holding() as two:
        one.add(6)
        with pytest.raises(Refused, match="too much"):
            two.add(6)
    assert intake.held_bytes == 0
