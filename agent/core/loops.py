"""What runs beside the requests: loops that live as long as the core, each with its name.

A loop that fails is a bug: it is logged with its traceback and begins anew after a pause, for the
requests and the other loops have nothing to do with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

RESTART_S = 5.0
Loop = Callable[[], Awaitable[None]]
OnFailure = Callable[[str, BaseException], None]


@asynccontextmanager
async def running(loops: Mapping[str, Loop], on_failure: OnFailure) -> AsyncIterator[None]:
    """The loops run while the block does; `on_failure` is told the name of one that failed."""
    tasks = [
        asyncio.create_task(_keep_running(name, loop, on_failure), name=name)
        for name, loop in loops.items()
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_running(name: str, loop: Loop, on_failure: OnFailure) -> None:
    while True:
        try:
            await loop()
        except Exception as error:  # noqa: BLE001  (told, whatever it was)
            on_failure(name, error)
            await asyncio.sleep(RESTART_S)
        else:
            return
