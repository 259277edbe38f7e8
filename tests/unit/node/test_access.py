"""The door of the API: who may enter over TCP, and how the token is replaced."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from agent.domain.errors import Refused
from agent.infra.http_server import Peer
from agent.node.api.access import Access, TokenFile, came_by_network, own_token
from agent.node.credential import write_private


def request(token: str | None = None, peer: Peer | None = None) -> Request:
    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode("latin-1"))]
    state: dict[str, Any] = {} if peer is None else {"peer": peer}
    return Request({"type": "http", "headers": headers, "state": state})


def refusal(access: Access, asked: Request) -> str | None:
    try:
        access.require(asked)
    except Refused as error:
        return error.code
    return None


def test_the_token_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    first = own_token(tmp_path).current()
    assert first
    assert own_token(tmp_path).current() == first
    assert (tmp_path / "api.token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("given", [None, "", "wrong", "secret2", "secre", "sécret", "\x80"])
def test_nobody_gets_in_without_it(tmp_path: Path, given: str | None) -> None:
    write_private(tmp_path / "api.token", "secret\n")
    access = Access(TokenFile(tmp_path / "api.token"))
    assert refusal(access, request(given)) == "unauthorized"
    assert refusal(access, request("secret")) is None


def test_without_a_token_of_its_own_nobody_gets_in_by_tcp(tmp_path: Path) -> None:
    for access in (Access(None), Access(TokenFile(tmp_path / "none"))):
        for given in (None, "", "x"):
            assert refusal(access, request(given)) == "unauthorized"


def test_replacing_the_file_is_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "api.token"
    write_private(path, "old\n")
    access = Access(TokenFile(path))
    assert refusal(access, request("old")) is None
    write_private(path, "new\n")
    assert (refusal(access, request("old")), refusal(access, request("new"))) == (
        "unauthorized", None,
    )  # fmt: skip
    path.unlink()
    assert refusal(access, request("new")) == "unauthorized"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_token_that_others_may_read_is_none(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "api.token"
    write_private(path, "secret\n")
    access = Access(TokenFile(path))
    assert refusal(access, request("secret")) is None
    path.chmod(mode)
    assert refusal(access, request("secret")) == "unauthorized"
    path.chmod(0o600)
    assert refusal(access, request("secret")) is None


def test_an_empty_or_unreadable_token_lets_nobody_in(tmp_path: Path) -> None:
    for content in (b"", b"\n", b"\xff\xfe\n"):
        path = tmp_path / f"token{len(content)}"
        path.write_bytes(content)
        path.chmod(0o600)
        assert refusal(Access(TokenFile(path)), request("x")) == "unauthorized"


def test_on_the_socket_the_kernel_says_who_it_is() -> None:
    access = Access(None)
    own = Peer(pid=1, uid=os.geteuid(), gid=0)
    assert refusal(access, request(peer=own)) is None
    assert refusal(access, request(peer=Peer(pid=1, uid=0, gid=0))) is None
    stranger = Peer(pid=1, uid=os.geteuid() + 4711, gid=0)
    assert refusal(access, request("any", peer=stranger)) == "forbidden"
    assert came_by_network(request())
    assert not came_by_network(request(peer=own))
