"""A node's own API, where the core can reach it. The only module of the core that dials nodes.

Whatever comes back is bounded before it is read whole; a redirect is not followed, so that the
token goes to no other address than the one that an operator gave.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from agent.core.nodes.pulled_state import Page, Unusable
from agent.wire.messages import BadMessage, decode_message
from agent.wire.strict_json import NotJson

CONNECT_S_MAX = 5.0
ANSWER_S_MAX = 10.0
STATE_S_MAX = 40.0  # for all of it: who nudges waits
PAGE_ACTIONS = 200
PAGE_BYTES_MAX = 16 * 1024 * 1024
PAGES_MAX = 1000


class NodeApi(Protocol):
    """Reads a node's state; a port, so that tests need no socket."""

    def state_of(self, url: str, token: str) -> AsyncIterator[Page]:
        """Page by page. Raises `Unusable`."""
        ...


class HttpNodeApi:
    """Over HTTP, with a client of its own for each node: they are nudged rarely."""

    async def state_of(self, url: str, token: str) -> AsyncIterator[Page]:
        """Page by page. Raises `Unusable`."""
        import httpx  # noqa: PLC0415  (few cores ever dial a node)

        client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"},
            follow_redirects=False,
            trust_env=False,  # a proxy from somebody's shell must not carry the token
            verify=url.startswith("https:"),
            timeout=httpx.Timeout(CONNECT_S_MAX, read=ANSWER_S_MAX),
        )
        after: str | None = None
        try:
            async with asyncio.timeout(STATE_S_MAX), client:
                for _ in range(PAGES_MAX):
                    params = {"limit": str(PAGE_ACTIONS)} | ({"after": after} if after else {})
                    page = await _page(client, f"{url}/v1/state", params)
                    yield page
                    after = page.next
                    if after is None:
                        return
        except TimeoutError:
            raise Unusable(f"{url}: it took more than {STATE_S_MAX:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last: no such name
            text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise Unusable(f"{url}: {text}") from None
        raise Unusable(f"{url}: its state has more than {PAGES_MAX} pages")


async def _page(client: Any, url: str, params: dict[str, str]) -> Page:
    async with client.stream("GET", url, params=params) as response:
        if response.status_code == 401:
            raise Unusable(f"{url}: 401, the token is not this node's; set api_token anew")
        if response.status_code != 200:
            raise Unusable(f"{url}: answered {response.status_code}, is that agentd?")
        chunks, size = [], 0
        async for chunk in response.aiter_raw():  # packed it would be larger than it looks
            size += len(chunk)
            if size > PAGE_BYTES_MAX:
                raise Unusable(
                    f"{url}: a page of more than {PAGE_BYTES_MAX} bytes, is that agentd?"
                )
            chunks.append(chunk)
    try:
        return decode_message(b"".join(chunks), Page)
    except (NotJson, BadMessage) as error:
        raise Unusable(f"{url}: {error}; is that agentd?") from None
