"""`HttpCore` against servers that are no core: each is a clear error, and none fills the memory.

An answer that cannot be used is an unreachable core, never an empty answer: nothing is withdrawn
by a proxy's page.
"""

from __future__ import annotations

import asyncio
import time
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from agent.node.sync.http_core import HttpCore
from agent.node.sync.port import CoreRefused, CoreUnreachable
from agent.wire.messages import BODY_BYTES_MAX

pytestmark = pytest.mark.timeout(60)

GIB5 = 5 * 1024**3
Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GOOD = b'{"cursor": "c", "full": false, "actions": [], "requests": []}'


def answer(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """A whole HTTP answer."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", "Content-Type: application/json"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def says(data: bytes) -> Speak:
    """A server that reads a request, says this, and goes."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()

    return speak


def pull_from(
    speak: Speak, wait_s: float = 0.0, on_date: Callable[[datetime], None] | None = None
) -> str:
    """One pull; the cursor that it brought."""

    async def run() -> str:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await speak(reader, writer)
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                writer.close()
                ended.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        core = HttpCore(f"http://127.0.0.1:{port}", instance="i", version="0")
        core.identify("n", "secret")
        core.on_date = on_date or core.on_date
        try:
            return (await core.pull("", wait_s)).cursor
        finally:
            await core.close()
            server.close()

    return asyncio.run(run())


def test_a_good_answer_is_taken() -> None:
    assert pull_from(says(answer(GOOD))) == "c"


def test_the_date_of_a_good_answer_is_told_and_no_others() -> None:
    dates: list[datetime] = []
    date = "Date: Sun, 01 Mar 2026 12:00:00 GMT"
    pull_from(says(answer(GOOD, "200 OK", date)), on_date=dates.append)
    assert dates == [datetime(2026, 3, 1, 12, tzinfo=UTC)]
    pull_from(says(answer(GOOD, "200 OK", "Date: soon")), on_date=dates.append)
    pull_from(says(answer(GOOD)), on_date=dates.append)
    with pytest.raises(CoreUnreachable):
        pull_from(says(answer(b"<html>", "200 OK", date)), on_date=dates.append)
    assert len(dates) == 1


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (answer(b"<!DOCTYPE html><title>Sign in</title>"), "HTML"),
        (answer(b""), "empty"),
        (answer(b'{"cursor": "c"'), "not JSON"),
        (answer(b'{"cursor": NaN}'), "NaN"),
        (answer(b'{"cursor": "c", "cursor": "d"}'), "stands twice"),
        (answer(b'{"cursor": 7}'), "cursor"),
        (answer(b'{"full": false}'), "cursor"),
        (answer(b"[]"), "array"),
        (answer(b"\xff\xfe{}"), "UTF-8"),
        (answer(b'{"cursor": "c", "more": ' + b"[" * 99 + b"]" * 99 + b"}"), "deeper"),
        (answer(b"", "302 Found", "Location: http://elsewhere.example/"), "redirected to http"),
        (answer(b"", "301 Moved", "Location: /login"), "redirected to /login"),
        (answer(b"oops", "502 Bad Gateway"), "502"),
        (answer(GOOD, length=len(GOOD) + 5), "ProtocolError"),
        (b"this is not HTTP at all\r\n\r\n", "ProtocolError"),
        (b"", "ProtocolError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_answer_is_unreachable(data: bytes, told: str) -> None:
    with pytest.raises(CoreUnreachable, match=told):
        pull_from(says(data))


def test_five_gigabytes_announced_are_not_read() -> None:
    begun = time.monotonic()
    with pytest.raises(CoreUnreachable, match="Is this the core"):
        pull_from(says(answer(b"x" * 1000, length=GIB5)))
    assert time.monotonic() - begun < 10


def test_five_gigabytes_streamed_are_never_held() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        while sent < GIB5:
            writer.write(chunk)
            await writer.drain()
            sent += 0x10000

    tracemalloc.start()
    try:
        with pytest.raises(CoreUnreachable, match="Is this the core"):
            pull_from(flood)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sent < 64 * BODY_BYTES_MAX
    assert peak < 8 * BODY_BYTES_MAX, f"{peak} bytes were held"


def test_busy_says_when_to_come_again() -> None:
    body = b'{"error": "unavailable", "message": "not now"}'
    with pytest.raises(CoreUnreachable, match="not now") as busy:
        pull_from(says(answer(body, "503 Service Unavailable", "Retry-After: 17")))
    assert busy.value.retry_after_s == 17.0
    with pytest.raises(CoreUnreachable) as vague:
        pull_from(says(answer(body, "429 Too Many", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT")))
    assert vague.value.retry_after_s is None


def test_a_refusal_keeps_its_word_and_number() -> None:
    body = b'{"error": "gap", "message": "no", "expected": 12}'
    with pytest.raises(CoreRefused) as refused:
        pull_from(says(answer(body, "409 Conflict")))
    assert (refused.value.code, refused.value.expected) == ("gap", 12)


def test_a_refusal_by_somebody_else_is_none_of_the_cores() -> None:
    with pytest.raises((CoreRefused, CoreUnreachable)) as refused:
        pull_from(says(answer(b"<html>Forbidden</html>", "403 Forbidden")))
    assert getattr(refused.value, "code", "unexpected") == "unexpected"


def test_a_poll_that_is_cut_says_so() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)

    with pytest.raises(CoreUnreachable) as cut:
        pull_from(hang_up, wait_s=30.0)
    assert cut.value.cut
    with pytest.raises(CoreUnreachable) as short:
        pull_from(hang_up)
    assert not short.value.cut


def test_a_slow_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.node.sync.http_core.ANSWER_S_MAX", 0.3)

    async def sleep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(5)

    begun = time.monotonic()
    with pytest.raises(CoreUnreachable, match="ReadTimeout"):
        pull_from(sleep)
    assert time.monotonic() - begun < 4


def test_one_byte_at_a_time_does_not_last_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte is in time, the whole is not."""
    monkeypatch.setattr("agent.node.sync.http_core.ANSWER_S_MAX", 0.5)
    monkeypatch.setattr("agent.node.sync.http_core.CONNECT_S_MAX", 0.5)
    monkeypatch.setattr("agent.node.sync.http_core.BODY_S_MAX", 0.5)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b"", length=1000))
        for _ in range(100):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.1)

    begun = time.monotonic()
    with pytest.raises(CoreUnreachable):
        pull_from(drip)
    assert time.monotonic() - begun < 5


def test_a_compressed_bomb_is_never_held() -> None:
    bomb = zlib.compress(b" " * (256 * 1024 * 1024), 9)
    tracemalloc.start()
    try:
        with pytest.raises(CoreUnreachable):
            pull_from(says(answer(bomb, "200 OK", "Content-Encoding: deflate")))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * BODY_BYTES_MAX, f"{peak} bytes were held"
