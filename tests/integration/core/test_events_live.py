"""Live events of a real core: each once, across kill -9; filters; who is slow is cut off."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.cli.event_feed import frames
from tests.fakes.core_backends import OverHttp
from tests.fakes.core_process import ROOT, CoreProcess
from tests.fakes.postgres import Postgres
from tests.fakes.reporting_node import ReportingNode

pytestmark = pytest.mark.timeout(60)


class Asking:
    """An operator with a connection of its own."""

    def __init__(self, core: CoreProcess) -> None:
        self.core = core
        self.headers = {"Authorization": f"Bearer {core.token}"}
        self.client = httpx.Client(base_url=core.url, headers=self.headers, trust_env=False)
        self.count = 0

    def enroll(self, node: str | None = None) -> str:
        """A new node, which is an event."""
        self.count += 1
        name = node or f"n{self.count}"
        token = self.client.post("/v1/enrollment-tokens", json={"node": name}).json()["token"]
        body = {"token": token, "nonce": "n", "agent_id": name}
        assert self.client.post("/v1/agents/enroll", json=body).status_code == 200
        return name

    @contextmanager
    def live(self, last: str | None = None, **query: Any) -> Iterator[Iterator[dict[str, Any]]]:
        headers = {**self.headers, "Accept": "text/event-stream"}
        headers |= {"Last-Event-ID": last} if last is not None else {}
        with httpx.stream(
            "GET", f"{self.core.url}/v1/events", params=query, headers=headers, trust_env=False,
            timeout=20,
        ) as answer:  # fmt: skip
            assert answer.status_code == 200, answer.read()
            yield (
                json.loads(frame.data)
                for frame in frames(answer.iter_bytes())
                if frame.data is not None
            )


def take(events: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return [next(events) for _ in range(count)]


def test_from_now_on_or_from_a_number_and_filtered(shared_core: CoreProcess) -> None:
    asking = Asking(shared_core)
    asking.enroll("before")
    head = int(asking.client.get("/v1/events", params={"limit": 500}).json()["next"])
    with (
        asking.live() as now,
        asking.live(after=0) as everything,
        asking.live(node="mine", type="enrolled") as mine,
    ):
        asking.enroll("other")
        asking.enroll("mine")
        assert [event["node"] for event in take(now, 2)] == ["other", "mine"]
        assert [event["node"] for event in take(mine, 1)] == ["mine"]
        assert [event["id"] for event in take(everything, head + 2)] == list(range(1, head + 3))
    with asking.live(last=str(head), after=0) as resumed:
        assert next(resumed)["id"] == head + 1, "the header wins: a browser repeats its first URL"


@pytest.mark.parametrize(
    ("query", "last", "status"),
    [
        ("?after=99999999", None, 410),
        ("", "99999999", 410),
        ("", "x", 422),
        ("?after=-1", None, 422),
        ("?selector=%3D&bogus=1&after=x", None, 422),
        ("?limit=5", None, 422),
    ],
)
def test_what_cannot_be_streamed(
    shared_core: CoreProcess, query: str, last: str | None, status: int
) -> None:
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {shared_core.token}"}
    headers |= {"Last-Event-ID": last} if last else {}
    answer = httpx.get(f"{shared_core.url}/v1/events{query}", headers=headers, trust_env=False)
    assert answer.status_code == status
    body = answer.json()
    assert body["error"] == ("gone" if status == 410 else "invalid")
    if "bogus" in query:
        assert {fault["path"] for fault in body["faults"]} == {"selector", "bogus", "after"}


def test_without_a_token_nothing_is_told(shared_core: CoreProcess) -> None:
    headers = {"Accept": "text/event-stream"}
    answer = httpx.get(f"{shared_core.url}/v1/events", headers=headers, trust_env=False)
    assert answer.status_code == 401


def test_each_event_once_across_kills(core: CoreProcess) -> None:
    """A reader that resumes by the last id, while the core is killed and started three times."""
    asking = Asking(core)
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        last = "0"
        while not stop.is_set():
            try:
                with asking.live(last=last) as events:
                    for event in events:
                        last = str(event["id"])
                        seen.append(event["id"])
            except httpx.HTTPError:
                time.sleep(0.02)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for _ in range(3):
        for _ in range(5):
            asking.enroll()
        core.kill()
        core.start()
        asking.client = httpx.Client(base_url=core.url, headers=asking.headers, trust_env=False)
    asking.enroll()
    until = time.monotonic() + 15
    while len(seen) < 16 and time.monotonic() < until:
        time.sleep(0.02)
    stop.set()
    assert seen == list(range(1, 17))
    assert core.stop() == 0, "an open stream does not hold it up"
    reader.join(5)
    assert not reader.is_alive()


def test_a_listener_that_does_not_read_is_cut_off(core: CoreProcess) -> None:
    """It holds neither the others nor the core's memory; here it is the socket that fills."""
    asking = Asking(core)
    asking.enroll("n")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = core.listen.split(":")
    sock.connect((host, int(port)))
    request = f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {core.token}\r\n"
    sock.sendall(f"{request}Accept: text/event-stream\r\n\r\n".encode())
    assert sock.recv(100).startswith(b"HTTP/1.1 200")
    # Far more than the sockets' buffers and its queue hold; the other one reads it all.
    with asking.live(type="unreadable") as quick:
        pushing = threading.Thread(target=lambda: asyncio.run(push_much(core, batches=7)))
        pushing.start()
        assert len(take(quick, 1400)) == 1400
        pushing.join()
        metrics = asking.client.get("/metrics").text
    assert "cored_event_subscribers_cut_total 1.0" in metrics
    sock.close()


async def push_much(core: CoreProcess, batches: int) -> None:
    """Two hundred events of 15 kB each; of an unknown type, they are kept as they came."""
    async with OverHttp.to(core) as backend:
        node = await ReportingNode.enrolled(backend)
        for _ in range(batches):
            await node.push(*(node.event("strange", text="x" * 15_000) for _ in range(200)))


def test_corectl_watches(core: CoreProcess) -> None:
    asking = Asking(core)
    command = [
        sys.executable, "-m", "agent.cli.corectl", "--core", core.url,
        "--token-file", str(core.token_file), "watch", "--after", "0",
    ]  # fmt: skip
    people = subprocess.Popen([*command, "--count", "2"], stdout=subprocess.PIPE, cwd=ROOT)
    programs = subprocess.Popen(
        [*command, "--count", "2", "--json", "--type", "enrolled"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert people.stdout is not None
    assert programs.stdout is not None
    asking.enroll("n1")
    first, plain = people.stdout.readline().decode(), programs.stdout.readline()
    core.kill()
    core.start()
    asking.client = httpx.Client(base_url=core.url, headers=asking.headers, trust_env=False)
    asking.enroll("n2")
    second = people.communicate(timeout=20)[0].decode()
    assert [line.split()[1:3] for line in (first, second)] == [
        ["n1", "enrolled"],
        ["n2", "enrolled"],
    ]
    out, said = programs.communicate(timeout=20)
    assert [json.loads(line)["node"] for line in (plain, out)] == ["n1", "n2"]
    assert "trying again" in said.decode()
    assert "the core is back" in said.decode()


def test_a_stream_from_one_core_has_what_others_commit(postgres: Postgres, tmp_path: Path) -> None:
    """Each event once and in order, whoever writes; at once, and of a killed one soon."""
    url = postgres.empty_database()
    one, other = (CoreProcess(tmp_path / name, database=url).start() for name in ("a", "b"))
    try:
        asking, beside = Asking(one), Asking(other)
        with asking.live() as events:
            begun = time.monotonic()
            beside.enroll("first")
            (first,) = take(events, 1)
            assert (first["node"], time.monotonic() - begun < 2.0) == ("first", True)
            threads = [
                threading.Thread(target=_enroll_many, args=(one if part % 2 else other, part))
                for part in range(4)
            ]
            for thread in threads:
                thread.start()
            seen = take(events, 60)
            for thread in threads:
                thread.join()
            other.kill()
            asking.enroll("last")
            seen += take(events, 21)
        stored = asking.client.get("/v1/events", params={"after": first["id"], "limit": 500})
        assert seen == stored.json()["events"]
        assert seen[-1]["node"] == "last"
        assert len({event["node"] for event in seen}) == 81
    finally:
        one.stop()
        other.stop()


def _enroll_many(core: CoreProcess, part: int) -> None:
    asking = Asking(core)
    for number in range(20):
        asking.enroll(f"p{part}.{number}")
