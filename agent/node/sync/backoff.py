"""How long to wait before the core is tried again: capped, jittered, and as the core asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from agent.node.sync.port import CoreUnreachable

FIRST_S = 0.5
MAX_S = 60.0
RETRY_AFTER_S_MAX = 3600.0  # a core that asks for more is not believed


def backoff_s(failures: int, retry_after_s: float | None, jitter: float) -> float:
    """Seconds to wait after `failures` (from 1) in a row; `jitter` in [0, 1) spreads the herd.

    Between half and all of the exponential step; never less than the core asked for.
    """
    step = min(MAX_S, FIRST_S * 2.0 ** min(failures - 1, 16))
    own = step * (0.5 + 0.5 * jitter)
    if retry_after_s is None:
        return own
    asked = min(max(retry_after_s, 0.0), RETRY_AFTER_S_MAX)
    return asked + FIRST_S * jitter if asked >= own else own


def until_reached(
    jitter: Callable[[], float],
    note: Callable[[CoreUnreachable], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncRetrying:
    """A retrying that never gives up on `CoreUnreachable`, and tells `note` of each failure.

    `sleep` may return early where somebody asks to try at once.
    """

    def wait(state: RetryCallState) -> float:
        error = _failure(state)
        return backoff_s(state.attempt_number, error.retry_after_s, jitter())

    def before_sleep(state: RetryCallState) -> None:
        note(_failure(state))

    return AsyncRetrying(
        retry=retry_if_exception_type(CoreUnreachable),
        wait=wait,
        before_sleep=before_sleep,
        sleep=sleep,
    )


def _failure(state: RetryCallState) -> CoreUnreachable:
    error = state.outcome.exception() if state.outcome is not None else None
    if not isinstance(error, CoreUnreachable):
        raise TypeError(f"retried without a CoreUnreachable: {error!r}")
    return error
