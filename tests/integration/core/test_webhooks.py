"""Webhooks of a real core, to a receiver that fails, hangs and says that it is gone."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.core_process import CoreProcess

pytestmark = pytest.mark.timeout(60)


class Inbox:
    """A real receiver. `answers` are taken in order, then 200; a number, or "hang" or "drop"."""

    def __init__(self) -> None:
        self.answers: list[int | str] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.released = threading.Event()
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                inbox.got.append((headers, body))
                answer = inbox.answers.pop(0) if inbox.answers else 200
                if answer == "hang":
                    inbox.released.wait(30)
                if isinstance(answer, str):
                    self.close_connection = True
                    return
                self.send_response(answer)
                if answer == 302:
                    self.send_header("location", "http://127.0.0.1:1/")
                said = b"x" * 1_000_000 if answer == 507 else b""
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/in"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def events(self) -> list[int]:
        return [json.loads(body)["data"].get("id") for _, body in self.got]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    box = Inbox()
    yield box
    box.released.set()
    box.server.shutdown()


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[CoreProcess]:
    settings = {"webhook_retry_s": 0.05, "webhook_attempts": 3}
    running = CoreProcess(tmp_path / "core", **settings).start()
    yield running
    running.stop()


class Operator:
    def __init__(self, core: CoreProcess) -> None:
        headers = {"Authorization": f"Bearer {core.token}"}
        self.client = httpx.Client(base_url=core.url, headers=headers, trust_env=False, timeout=30)
        self.count = 0

    def happen(self, count: int = 1) -> None:
        """An event each."""
        for _ in range(count):
            token = self.client.post("/v1/enrollment-tokens").json()["token"]
            answer = self.client.post("/v1/agents/enroll", json={"token": token, "nonce": "n"})
            assert answer.status_code == 200

    def hook(self, url: str, **more: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/webhooks", json={"url": url, **more})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def shown(self, hook: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/v1/webhooks/{hook['id']}").json()
        return found


def until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_whatever_the_receiver_does_they_arrive_in_order(
    impatient: CoreProcess, inbox: Inbox
) -> None:
    operator = Operator(impatient)
    hook = operator.hook(inbox.url, filter={"type": ["enrolled"]})
    inbox.answers = [500, "drop", 200, 302, 507, 200, 503]
    operator.happen(4)
    until(lambda: len(inbox.got) == 9)
    assert inbox.events() == [1, 1, 1, 2, 2, 2, 3, 3, 4]
    until(lambda: operator.shown(hook)["cursor"] == 4)
    for headers, body in inbox.got:
        key = base64.b64decode(hook["secret"].removeprefix("whsec_"))
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.digest(key, signed, sha256)).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        assert abs(time.time() - int(headers["webhook-timestamp"])) < 60
    assert "whsec_" not in operator.client.get("/v1/webhooks").text
    assert hook["secret"] not in impatient.log.read_text()
    assert "whsec_" not in impatient.log.read_text()


def test_dead_letters_and_gone(impatient: CoreProcess, inbox: Inbox) -> None:
    operator = Operator(impatient)
    hook = operator.hook(inbox.url)
    path = f"/v1/webhooks/{hook['id']}"
    inbox.answers = [500, 500, 500, 200, 410]
    operator.happen(2)
    until(lambda: len(inbox.got) == 4)
    until(lambda: operator.shown(hook)["failures"] == 1)
    (letter,) = operator.client.get(f"{path}/failures").json()["failures"]
    assert (letter["event_id"], letter["attempts"]) == (1, 3)
    operator.happen()
    until(lambda: operator.shown(hook)["enabled"] is False)
    types = [event["type"] for event in operator.client.get("/v1/events").json()["events"]]
    assert types[-1] == "webhook_disabled"
    retried = operator.client.post(f"{path}/failures/{letter['row']}/retry").json()
    assert retried == {"delivered": True, "status": 200, "error": None}
    assert operator.client.post(f"{path}/test").json()["delivered"] is True
    assert operator.client.post(f"{path}/enable").json()["enabled"] is True
    until(lambda: inbox.events()[-1:] == [4])
    assert operator.client.delete(path).json() == {"id": hook["id"], "deleted": True}
    assert operator.client.get(path).status_code == 404


def test_one_that_hangs_holds_no_other_and_kill_9_loses_nothing(
    impatient: CoreProcess, inbox: Inbox
) -> None:
    operator, other = Operator(impatient), Inbox()
    operator.hook(inbox.url)
    quick = operator.hook(other.url)
    inbox.answers = ["hang"]
    operator.happen(3)
    until(lambda: len(inbox.got) == 1 and other.events() == [1, 2, 3])
    until(lambda: operator.shown(quick)["cursor"] == 3)  # before that it would be sent once more
    impatient.kill()
    impatient.start()
    until(lambda: inbox.events() == [1, 1, 2, 3])
    assert other.events() == [1, 2, 3]
    other.server.shutdown()
    inbox.answers = ["hang"]
    Operator(impatient).happen()
    until(lambda: len(inbox.got) == 5)
    began = time.monotonic()
    assert impatient.stop() == 0
    assert time.monotonic() - began < 5, "a message that hangs does not hold it up"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "", {}, 422),
        ("POST", "", {"url": "file:///etc/passwd", "filter": {"x": 1}, "more": 2}, 422),
        ("POST", "", {"url": "http://a/", "after": 10**9}, 410),
        ("POST", "", [], 422),
        ("GET", "/nope", None, 404),
        ("DELETE", "/nope", None, 404),
        ("POST", "/%00/test", None, 400),
        ("GET", "/nope/failures", None, 404),
        ("POST", "/nope/failures/1/retry", None, 404),
        ("DELETE", "/nope/failures/x", None, 404),
        ("DELETE", f"/nope/failures/{10**30}", None, 404),
        ("GET", "?limit=3", None, 422),
        ("PUT", "", {}, 405),
    ],
)
def test_bad_requests(
    shared_core: CoreProcess, method: str, path: str, body: Any, status: int
) -> None:
    answer = Operator(shared_core).client.request(method, f"/v1/webhooks{path}", json=body)
    assert answer.status_code == status, answer.text
    if body and "more" in body:
        paths = {fault["path"] for fault in answer.json()["faults"]}
        assert paths == {"url", "filter.x", "more"}


def test_they_are_for_admins_alone(shared_core: CoreProcess) -> None:
    """Who knows the URL of a chat's webhook may write there: it is as good as a password."""
    operator = Operator(shared_core)
    made = operator.client.post("/v1/tokens", json={"name": "v", "role": "approver"})
    headers = {"Authorization": f"Bearer {made.json()['token']}"}
    hook = operator.client.post("/v1/webhooks", json={"url": "http://a.invalid/SECRET"}).json()
    for path in ("", f"/{hook['id']}", f"/{hook['id']}/failures"):
        assert operator.client.get(f"/v1/webhooks{path}", headers=headers).status_code == 403, path
    operator.client.delete(f"/v1/webhooks/{hook['id']}")
    lines = operator.client.get("/v1/audit", headers=headers).json()["lines"]
    told = [line["detail"] for line in lines if line["target"] == hook["id"]]
    assert [detail["host"] for detail in told] == ["a.invalid"] * 2
    assert "SECRET" not in str(told)
    for path in ("", "/x/test", "/x/enable", "/x/failures/1/retry"):
        answer = operator.client.post(f"/v1/webhooks{path}", headers=headers, json={})
        assert answer.status_code == 403, path
