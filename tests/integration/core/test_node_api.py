"""What may answer where a node's API should be: over real sockets, whatever it says is bounded."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from agent.core.nodes import node_api
from agent.core.nodes.node_api import HttpNodeApi
from agent.core.nodes.pulled_state import Page, Unusable

pytestmark = pytest.mark.timeout(20)

EMPTY = b'{"agent_id": "n1", "agent_epoch": "e", "seq": 0, "actions": []}'
PACKED = gzip.compress(b" " * 1_000_000)  # a thousand bytes


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def ask(answer: bytes, look: Callable[[str, list[bytes]], Coroutine[Any, Any, None]]) -> None:
    """A server that answers everything with the same; `look` gets its URL and what it was sent."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(65536):
            heard.append(head)
            writer.write(answer)
            await writer.drain()
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await look(f"http://127.0.0.1:{port}", heard)
        server.close()

    asyncio.run(story())


async def pages_of(url: str) -> list[Page]:
    return [page async for page in HttpNodeApi().state_of(url, "secret")]


def test_its_state_is_read_with_its_token() -> None:
    async def look(url: str, heard: list[bytes]) -> None:
        [page] = await pages_of(url)
        assert page.agent_id == "n1"
        assert b"authorization: bearer secret" in heard[0].lower()

    ask(http(EMPTY), look)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http(b"", "302 Found", "Location: http://127.0.0.1:1/"), "answered 302"),
        (http(b"{}", "401 Unauthorized"), "401, the token"),
        (http(b"<html>"), "is that agentd"),
        (http(b"{}"), "is that agentd"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "RemoteProtocolError"),
        (http(b"x" * 2_000), "more than 1500 bytes"),
        (http(PACKED, "200 OK", "Content-Encoding: gzip"), "^(?!.*more than).*is that agentd"),
    ],
)
def test_what_is_no_agentd_is_said_to_be_none(
    answer: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one would be large once it is unpacked: it is not."""
    monkeypatch.setattr(node_api, "PAGE_BYTES_MAX", 1_500)

    async def look(url: str, heard: list[bytes]) -> None:
        with pytest.raises(Unusable, match=why):
            await pages_of(url)
        assert len(heard) == 1  # no redirect is followed

    ask(answer, look)


@pytest.mark.parametrize("url", ["http://xn--/", "http://a..b", f"http://{'a' * 64}.example"])
def test_a_name_that_is_none_is_no_bug_of_ours(url: str) -> None:
    async def look(_: str, __: list[bytes]) -> None:
        with pytest.raises(Unusable, match="http://"):
            await pages_of(url)

    ask(b"", look)


def test_pages_without_an_end_are_left() -> None:
    async def look(url: str, _: list[bytes]) -> None:
        with pytest.raises(Unusable, match="more than 5 pages"):
            await pages_of(url)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node_api, "PAGES_MAX", 5)
        ask(http(EMPTY[:-1] + b', "next": "a1"}'), look)
