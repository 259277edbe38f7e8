"""When a failed attempt is followed by another one."""

from __future__ import annotations

from datetime import datetime, timedelta

from agent.domain.definition import Retry

JITTER_SHARE = (
    0.2  # up to a fifth is taken off, so that nodes that failed together do not retry together
)


def retry_delay_s(policy: Retry, failures: int, jitter: float) -> float:
    """Seconds to wait after the `failures`-th failure (from 1); `jitter` is in [0, 1).

    >>> retry_delay_s(Retry(max_attempts=5, delay_s=30, backoff=2), 3, 0.0)
    120.0
    """
    exponent = min(failures - 1, 64)  # beyond that every policy has reached its maximum
    delay = min(policy.delay_s * policy.backoff**exponent, policy.max_delay_s)
    return delay * (1.0 - JITTER_SHARE * jitter)


def next_attempt_at(
    policy: Retry, failures: int, now: datetime, to_date: datetime | None, jitter: float
) -> datetime | None:
    """When to try again, or None: no attempt is left, or the window closes first."""
    if failures >= policy.max_attempts:
        return None
    at = now + timedelta(seconds=retry_delay_s(policy, failures, jitter))
    return None if to_date is not None and at >= to_date else at
