"""Strange requests at a real core: whatever comes, a 4xx that is JSON and says what is wrong."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.fakes.core_process import CoreProcess

pytestmark = pytest.mark.timeout(60)


def raw(core: CoreProcess, head: str, body: bytes = b"", **headers: str) -> tuple[int, Any, str]:
    """Status, document and head of the answer to bytes as they stand."""
    host, _, port = core.listen.rpartition(":")
    told = {
        "Host": "c", "Connection": "close", "Authorization": f"Bearer {core.token}",
        "Content-Length": str(len(body)), **headers,
    }  # fmt: skip
    lines = [f"{head} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items())]
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        data = b"".join(iter(lambda: sock.recv(65536), b""))
    answer_head, _, rest = data.partition(b"\r\n\r\n")
    text = answer_head.decode()
    status = int(text.split()[1])
    return status, json.loads(rest) if rest else None, text.lower()


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/v1/actions/%", "incomplete"),
        ("/v1/actions/%zz", "incomplete"),
        ("/v1/actions?node=%2", "incomplete"),
        ("/v1/actions/a%00b", "NUL"),
        ("/v1/actions?node=%00", "NUL"),
        ("/v1/agents?after=a%00", "NUL"),
        ("/v1/actions/%ff", "UTF-8"),
        ("/v1/actions?kind=%ed%a0%80", "UTF-8"),
        ("/%c0%80", "UTF-8"),
    ],
)
def test_a_target_that_means_nothing_is_refused(
    shared_core: CoreProcess, target: str, says: str
) -> None:
    status, answer, head = raw(shared_core, f"GET {target}")
    assert (status, answer["error"]) == (400, "bad_request")
    assert says in answer["message"]
    assert "content-type: application/json" in head


@pytest.mark.parametrize(
    ("head", "status", "error"),
    [
        ("GET /v1/nothing", 404, "not_found"),
        ("GET /", 404, "not_found"),
        ("GET //v1/actions", 404, "not_found"),
        ("GET /v1/actions/", 404, "not_found"),
        ("GET /v1/actions/..%2f..", 404, "not_found"),
        (f"GET /v1/actions/{'a' * 5000}", 404, "not_found"),
        ("OPTIONS /v1/actions", 405, "method_not_allowed"),
        ("PATCH /v1/actions", 405, "method_not_allowed"),
        ("DELETE /v1/dispatch", 405, "method_not_allowed"),
        ("BREW /v1/dispatch", 405, "method_not_allowed"),
        ("GET /v1/dispatch", 405, "method_not_allowed"),
        ("GET /v1/actions?nod=x", 422, "invalid"),
        ("GET /v1/actions?limit=1&limit=2", 422, "invalid"),
        ("GET /v1/actions?limit=99999999999999999999999", 422, "invalid"),
        ("GET /v1/actions?after=1e3", 422, "invalid"),
        ("GET /v1/actions?wait=1", 422, "invalid"),
        ("GET /v1/actions/x?wait=nan", 422, "invalid"),
        ("GET /v1/actions/x?wait=-1", 422, "invalid"),
        ("GET /healthz?x=1", 422, "invalid"),
        ("GET /openapi.json?x=1", 422, "invalid"),
        ("GET /v1/audit/verify?after=1", 422, "invalid"),
    ],
)
def test_every_refusal_is_a_document(
    shared_core: CoreProcess, head: str, status: int, error: str
) -> None:
    found, answer, told = raw(shared_core, head)
    assert (found, answer["error"]) == (status, error)
    assert answer["message"]
    assert "content-type: application/json" in told
    assert ("\r\nallow: " in told) == (status == 405)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "not_json"),
        (b"{", 400, "not_json"),
        (b"kind=sleep&node=n", 400, "not_json"),
        (b"<html>", 400, "not_json"),
        (b"\xff\xfe", 400, "not_json"),
        (b'{"kind":"a","kind":"b"}', 400, "not_json"),
        (b'{"kind":NaN}', 400, "not_json"),
        (b'{"kind":"\\ud800"}', 400, "not_json"),
        (b"[" * 40 + b"]" * 40, 400, "not_json"),
        (b'{"kind":99999999999999999999}', 400, "not_json"),
        (b"[]", 422, "invalid"),
        (b"null", 422, "invalid"),
        (b'"text"', 422, "invalid"),
        (b"{}", 422, "invalid"),
        (b'{"kind":"a\\u0000b","node":"n\\u0000"}', 422, "invalid"),
    ],
)
def test_every_bad_body_is_told(
    shared_core: CoreProcess, body: bytes, status: int, error: str
) -> None:
    for kind in ("application/json", "text/plain", "application/xml", "nonsense"):
        found, answer, _ = raw(shared_core, "POST /v1/dispatch", body, **{"Content-Type": kind})
        assert (found, answer["error"]) == (status, error), kind


def test_a_body_larger_than_it_says_it_may_be_is_not_read(shared_core: CoreProcess) -> None:
    status, answer, _ = raw(
        shared_core, "POST /v1/dispatch", b"{}", **{"Content-Length": str(10**15)}
    )
    assert (status, answer["error"]) == (413, "too_large")


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_json_is_json_whatever_it_is_called(shared_core: CoreProcess, media: str) -> None:
    """`curl -d` calls every body a form; what counts is what is in it."""
    status, answer, _ = raw(
        shared_core, "POST /v1/enrollment-tokens", b'{"ttl_s": 60}', **{"Content-Type": media}
    )
    assert status == 201, answer


def test_head_is_get_without_a_body(shared_core: CoreProcess) -> None:
    for path in ("/healthz", "/v1/actions", "/openapi.json", "/v1/audit"):
        status, answer, head = raw(shared_core, f"HEAD {path}")
        assert (status, answer) == (200, None), path
        assert "content-type: application/json" in head
    assert raw(shared_core, "HEAD /v1/actions/none")[0] == 404
    assert raw(shared_core, "HEAD /v1/actions", Authorization="Bearer x")[0] == 401


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Basic eA==", "Bearer \xe9\xff", "x"])
def test_a_strange_credential_is_none(shared_core: CoreProcess, given: str) -> None:
    status, answer, head = raw(shared_core, "GET /v1/actions", Authorization=given)
    assert (status, answer["error"]) == (401, "unauthorized")
    assert "www-authenticate: bearer" in head


def test_what_is_no_http_is_told_so(shared_core: CoreProcess) -> None:
    status, answer, _ = raw(shared_core, "GET /v1/a b c")
    assert (status, answer["error"]) == (400, "bad_request")
