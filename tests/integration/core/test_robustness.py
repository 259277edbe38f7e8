"""A core that is full, slowly fed, or told to stop in the middle: it answers, and it stops."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.fakes.core_process import CoreProcess

pytestmark = pytest.mark.timeout(60)
PLACES = 16


@pytest.fixture
def small(tmp_path: Path) -> Iterator[CoreProcess]:
    running = CoreProcess(tmp_path / "core", connections_max=PLACES).start()
    yield running
    running.stop()


def connected(core: CoreProcess) -> socket.socket:
    host, port = core.listen.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def head(core: CoreProcess, method: str, path: str, *more: str) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {core.token}", *more,
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_full_core_still_says_how_it_is(small: CoreProcess) -> None:
    with ExitStack() as stack:
        waiting = [stack.enter_context(connected(small)) for _ in range(PLACES)]
        for sock in waiting:
            sock.sendall(head(small, "GET", "/v1/events?wait=30"))
        headers = {"Authorization": f"Bearer {small.token}"}
        client = httpx.Client(base_url=small.url, headers=headers, trust_env=False)
        until = time.monotonic() + 10
        while client.get("/v1/agents").status_code == 200:
            assert time.monotonic() < until
        busy = client.get("/v1/agents")
        assert (busy.status_code, busy.json()["error"]) == (503, "busy")
        assert int(busy.headers["retry-after"]) > 0
        assert client.get("/healthz").status_code == 200
        assert "cored_http_requests_under_way 17.0" in client.get("/metrics").text
        waiting[0].close()  # who hangs up gives up a place
        until = time.monotonic() + 10
        while client.get("/v1/agents").status_code == 503:
            assert time.monotonic() < until
        for sock in waiting[2:]:
            sock.close()
        began = time.monotonic()
        assert small.stop() == 0
        assert time.monotonic() - began < 5
        assert waiting[1].recv(100).startswith(b"HTTP/1.1 200"), "an open poll is answered"


def test_a_stalled_upload_does_not_delay_the_end(small: CoreProcess) -> None:
    with connected(small) as sock:
        sock.sendall(head(small, "POST", "/v1/dispatch", "Content-Length: 1000") + b'{"kind"')
        time.sleep(0.2)
        began = time.monotonic()
        assert small.stop() == 0
        assert time.monotonic() - began < 6


def test_metrics_are_for_viewers_and_well_formed(shared_core: CoreProcess) -> None:
    headers = {"Authorization": f"Bearer {shared_core.token}"}
    client = httpx.Client(base_url=shared_core.url, trust_env=False)
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics?x=1", headers=headers).status_code == 422
    answer = client.get("/metrics", headers=headers)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    sample = re.compile(r'^[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [-+0-9.eEinfNa]+$')
    for line in answer.text.splitlines():
        assert line.startswith("# ") or sample.match(line), line
