"""Handing one message to a webhook's receiver. The core's only module that knows httpx.

Whatever the other side does ends in time and in an `Outcome`; its answer is read up to a bound, a
redirect is not followed (it would carry the signed body to somebody that nobody named).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import httpx

from agent.domain.errors import shown
from agent.version import VERSION

CONNECT_S_MAX = 5.0
ANSWER_S_MAX = 15.0
ANSWER_BYTES_MAX = 4096  # more is not worth a kept connection
GONE = 410


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: `error` is None for a 2xx."""

    status: int | None
    error: str | None
    retry_after_s: float | None = None

    @property
    def is_gone(self) -> bool:
        """The receiver says that it is not there any more."""
        return self.status == GONE


class Receiver(Protocol):
    """Where messages go."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """One attempt; raises nothing but cancellation."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...


class HttpReceiver:
    """Over one client, made at the first message: a core without webhooks never pays for it."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """`POST`, once."""
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                return await self._post(url, headers, body)
        except TimeoutError:
            return Outcome(None, f"no answer within {ANSWER_S_MAX:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Outcome(None, f"{type(error).__name__}: {error}"[:300])

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        client = self._client = self._client or _new_client()
        async with client.stream("POST", url, headers=dict(headers), content=body) as answer:
            said = bytearray()
            async for chunk in answer.aiter_raw():
                said += chunk
                if len(said) >= ANSWER_BYTES_MAX:
                    break
            if answer.is_success:
                return Outcome(answer.status_code, None)
            text = f": {shown(bytes(said[:200]).decode('utf-8', 'replace'))}" if said else ""
            return Outcome(
                answer.status_code,
                f"answered {answer.status_code}{text}",
                _seconds(answer.headers.get("retry-after")),
            )

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()


def _new_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(
        follow_redirects=False,
        timeout=httpx.Timeout(ANSWER_S_MAX, connect=CONNECT_S_MAX),
        trust_env=False,  # neither a proxy nor a .netrc from somebody's shell sees signed bodies
        headers={"user-agent": f"cored/{VERSION}", "accept-encoding": "identity"},
        limits=httpx.Limits(max_connections=128, max_keepalive_connections=32),
    )


def _seconds(text: str | None) -> float | None:
    """`Retry-After` in seconds; its other form, a date, is not worth a second clock."""
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 7 else None
