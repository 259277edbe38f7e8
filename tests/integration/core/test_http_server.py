"""The HTTP edge that both daemons use: sockets, peers, limits, and the client that talks to it."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from agent.cli.api_client import ApiClient, ApiRefused, Unreachable
from agent.domain.errors import Fault, InvalidDocument, NotFound, Refused
from agent.infra.asgi import Edge, answer, read_json, unless_gone
from agent.infra.http_server import HttpServer, Limits, bind_tcp, bind_unix, bound_to
from agent.infra.query import Query

pytestmark = pytest.mark.timeout(30)
FAILURES: list[str] = []


async def echo(request: Request) -> Response:
    return answer(await read_json(request))


async def peer(request: Request) -> Response:
    found = getattr(request.state, "peer", None)
    return answer(None if found is None else [found.pid, found.uid, found.gid])


async def fail(request: Request) -> Response:
    causes: dict[str, Exception] = {
        "invalid": InvalidDocument([Fault("a.b", "is wrong"), Fault("c", "too")]),
        "missing": NotFound("there is no x"),
        "refused": Refused("exists", "it is there"),
        "bug": RuntimeError("secret path /etc/x"),
    }
    raise causes[request.path_params["how"]]


async def strict(request: Request) -> Response:
    query = Query(request)
    found = [query.whole("n", 5, 1, 9), query.flag("f"), query.seconds("s", 0, 60)]
    query.finish()
    return answer(found)


async def stream(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(3):
            yield f"{number}\n".encode()
            await asyncio.sleep(0.05)

    return StreamingResponse(chunks())


async def wait(request: Request) -> Response:
    async def work() -> str:
        await asyncio.sleep(float(request.query_params.get("s", "60")))
        return "waited"

    return answer(await unless_gone(request, work()))


async def elsewhere(request: Request) -> Response:
    return Response(status_code=307, headers={"location": "http://evil.example/"})


async def page(request: Request) -> Response:
    return Response(b"<html>login</html>", 200, media_type="text/html")


ROUTES = [
    Route("/echo", echo, methods=["POST"]),
    Route("/peer", peer),
    Route("/fail/{how}", fail),
    Route("/strict", strict),
    Route("/stream", stream),
    Route("/wait", wait),
    Route("/elsewhere", elsewhere),
    Route("/page", page),
]


def note_failure(error_id: str, method: str, path: str, error: BaseException) -> None:
    FAILURES.append(f"{error_id} {method} {path} {error}")


@asynccontextmanager
async def serving(*sockets: socket.socket, limits: Limits | None = None) -> AsyncIterator[None]:
    server = HttpServer(Edge(ROUTES, note_failure), sockets, limits)
    await server.start()
    try:
        yield
    finally:
        await server.stop(1.0)


def while_serving(sock: socket.socket, ask: Callable[[], Any], **more: Any) -> Any:
    """Run a blocking client beside the server."""

    async def play() -> Any:
        async with serving(sock, **more):
            return await asyncio.to_thread(ask)

    return asyncio.run(play())


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    sock = bind_tcp("127.0.0.1", 0)
    yield sock
    sock.close()


def client_of(sock: socket.socket) -> ApiClient:
    return ApiClient(f"http://{bound_to(sock)}", timeout_s=5)


def test_a_unix_socket_has_its_mode_and_tells_the_peer(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    path.write_text("a stale file")
    sock = bind_unix(path, 0o660)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert list(tmp_path.iterdir()) == [path]
    found = while_serving(sock, lambda: ApiClient(path).get("/peer"))
    assert found == [os.getpid(), os.getuid(), os.getgid()]


def test_a_path_longer_than_the_kernels_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    path = deep / "agent.sock"
    sock = bind_unix(path)
    assert while_serving(sock, lambda: ApiClient(path).post("/echo", {"a": 1})) == {"a": 1}


def test_a_tcp_connection_has_no_peer(tcp: socket.socket) -> None:
    assert while_serving(tcp, lambda: client_of(tcp).get("/peer")) is None


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/fail/invalid", 422, "invalid"),
        ("/fail/missing", 404, "not_found"),
        ("/fail/refused", 409, "exists"),
        ("/strict?n=10&x=1&f=perhaps&s=-1", 422, "invalid"),
        ("/none", 404, "not_found"),
    ],
)
def test_errors_are_documents(tcp: socket.socket, path: str, status: int, code: str) -> None:
    def ask() -> ApiRefused:
        with pytest.raises(ApiRefused) as caught:
            client_of(tcp).get(path)
        return caught.value

    error = while_serving(tcp, ask)
    assert (error.status, error.code) == (status, code)
    if status == 422:
        assert len(error.faults) >= 2, "all of them at once"


def test_a_bug_is_logged_once_and_leaks_nothing(tcp: socket.socket) -> None:
    FAILURES.clear()

    def ask() -> ApiRefused:
        with pytest.raises(ApiRefused) as caught:
            client_of(tcp).get("/fail/bug")
        return caught.value

    error = while_serving(tcp, ask)
    assert (error.status, error.code) == (500, "internal")
    assert "secret" not in str(error)
    (logged,) = FAILURES
    assert "secret path" in logged
    assert logged.split()[0] in str(error)


def test_a_body_is_streamed(tcp: socket.socket) -> None:
    def ask() -> bytes:
        with client_of(tcp).stream("/stream", idle_s_max=5) as streamed:
            return b"".join(streamed.chunks)

    assert while_serving(tcp, ask) == b"0\n1\n2\n"


@pytest.mark.parametrize(
    ("path", "words"), [("/elsewhere", "redirects are not followed"), ("/page", "HTML")]
)
def test_what_is_not_ours_is_no_answer(tcp: socket.socket, path: str, words: str) -> None:
    def ask() -> None:
        with pytest.raises(Unreachable, match=words):
            client_of(tcp).get(path)

    while_serving(tcp, ask)


def test_nobody_there_says_why(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no such socket") as caught:
        ApiClient(tmp_path / "none.sock").get("/")
    assert isinstance(caught.value.cause, FileNotFoundError)
    with pytest.raises(Unreachable, match="nobody listens"):
        ApiClient("http://127.0.0.1:1").get("/")


def test_something_that_speaks_no_http(tcp: socket.socket) -> None:
    tcp.listen(1)

    def answer_nonsense() -> None:
        other, _ = tcp.accept()
        other.recv(1000)
        other.sendall(b"220 mail.example ESMTP\r\n")
        other.close()

    threading.Thread(target=answer_nonsense, daemon=True).start()
    with pytest.raises(Unreachable, match="does not speak HTTP"):
        client_of(tcp).get("/")


def raw(sock: socket.socket, data: bytes, wait_s: float = 5.0) -> bytes:
    """Send bytes, read until the server closes."""
    host, port = sock.getsockname()[:2]
    with socket.create_connection((host, port), timeout=wait_s) as other:
        other.sendall(data)
        found = b""
        while chunk := other.recv(65536):
            found += chunk
        return found


def test_a_malformed_request_is_answered_in_json(tcp: socket.socket) -> None:
    found = while_serving(tcp, lambda: raw(tcp, b"NONSENSE\r\n\r\n"))
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert f"content-length: {len(body)}".encode() in head
    assert b'"bad_request"' in body


def test_a_caller_who_says_nothing_holds_no_place(tcp: socket.socket) -> None:
    limits = Limits(header_s=0.3)
    assert while_serving(tcp, lambda: raw(tcp, b""), limits=limits) == b""
    assert while_serving_again(b"GET /peer HT", limits) == b""


REQUEST = b"GET /peer HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"


def read_answer(sock: socket.socket) -> bytes:
    """One answer whose body is a line."""
    found = b""
    while not found.partition(b"\r\n\r\n")[2].endswith(b"\n"):
        chunk = sock.recv(65536)
        assert chunk, found
        found += chunk
    return found


@pytest.mark.parametrize(("request_bytes", "drop"), [(REQUEST, b"GET /p"), (POST, b"x")])
def test_nor_does_one_who_stops_talking_later(
    tcp: socket.socket, request_bytes: bytes, drop: bytes
) -> None:
    """A byte stops the keep-alive timer; something else has to end what never comes."""

    def ask() -> bytes:
        with socket.create_connection(tcp.getsockname()[:2], timeout=5) as other:
            other.sendall(request_bytes)
            read_answer(other)
            other.sendall(drop)
            return other.recv(1)

    assert while_serving(tcp, ask, limits=Limits(header_s=0.3)) == b""


def test_a_kept_connection_serves_on_and_on(tcp: socket.socket) -> None:
    def ask() -> None:
        with socket.create_connection(tcp.getsockname()[:2], timeout=5) as other:
            for _ in range(3):
                other.sendall(REQUEST[:10])
                time.sleep(0.1)
                other.sendall(REQUEST[10:])
                assert read_answer(other).startswith(b"HTTP/1.1 200")
                time.sleep(0.3)

    while_serving(tcp, ask, limits=Limits(header_s=0.25))


def test_a_caller_who_hangs_up_gives_up_the_place(tcp: socket.socket) -> None:
    """Else every poll that a flapping network cuts counts on until its wait is over."""

    async def play() -> None:
        edge = Edge(ROUTES, note_failure)
        server = HttpServer(edge, [tcp])
        await server.start()
        for _ in range(5):
            _, writer = await asyncio.open_connection(*tcp.getsockname()[:2])
            writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0.05)
            writer.close()
        async with asyncio.timeout(5):
            while edge.under_way:  # noqa: ASYNC110  (nobody tells when it falls)
                await asyncio.sleep(0.02)
        found = await asyncio.to_thread(client_of(tcp).get, "/wait", s="0.1")
        assert found == "waited"
        await server.stop(1.0)

    asyncio.run(play())


def while_serving_again(data: bytes, limits: Limits) -> bytes:
    sock = bind_tcp("127.0.0.1", 0)
    found: bytes = while_serving(sock, lambda: raw(sock, data), limits=limits)
    return found


def test_connections_beyond_the_limit_are_closed(tcp: socket.socket) -> None:
    async def play() -> list[bytes]:
        async with serving(tcp, limits=Limits(connections_max=2)):
            host, port = tcp.getsockname()[:2]
            opened = [await asyncio.open_connection(host, port) for _ in range(2)]
            await asyncio.sleep(0.1)
            reader, writer = await asyncio.open_connection(host, port)
            try:
                beyond = await asyncio.wait_for(reader.read(), 5)
            except ConnectionResetError:
                beyond = b""
            writer.close()
            first = opened[0]
            first[1].write(b"GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            served = await asyncio.wait_for(first[0].read(), 5)
            for _, open_writer in opened:
                open_writer.close()
            return [beyond, served]

    beyond, served = asyncio.run(play())
    assert beyond == b""
    assert served.startswith(b"HTTP/1.1 200")


def test_headers_tell_nothing_of_the_server(tcp: socket.socket) -> None:
    request = b"GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    head = while_serving(tcp, lambda: raw(tcp, request)).partition(b"\r\n\r\n")[0].lower()
    assert b"server:" not in head
    assert b"uvicorn" not in head
