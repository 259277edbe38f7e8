"""HTTP for the commands: one small client for TCP and Unix sockets, on the standard library.

(httpx would cost a fifth of a second per command.) Answers are bounded, redirects are not
followed, and there are two ways to fail: nobody usable answers, or the daemon refuses. What that
means for a person and a shell is said by the command's own door.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from agent.infra.unix_path import socket_address
from agent.wire import strict_json

CONNECT_S_MAX = 10.0
ANSWER_S_MAX = 30.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
CHUNK_BYTES = 64 * 1024


class Unreachable(Exception):
    """No usable answer; `cause` is what happened, the text says it in words."""

    def __init__(self, cause: Exception, message: str = "") -> None:
        self.cause = cause
        super().__init__(message or str(cause))


class ApiRefused(Exception):
    """The daemon answered with an error; `status` is HTTP's, `code` the API's word."""

    def __init__(
        self, status: int, code: str, message: str, faults: Sequence[dict[str, str]] = ()
    ) -> None:
        self.status = status
        self.code = code
        self.faults = list(faults)
        super().__init__(message)


class NotOurs(Exception):
    """What answers there is something else: not HTTP, not JSON, too much, or a redirect."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that is read as it comes."""

    headers: Message  # looks names up whatever their case
    chunks: Iterator[bytes]


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            with socket_address(self._path) as address:
                self.sock.connect(address)
        except BaseException:
            self.sock.close()
            raise


class ApiClient:
    """One daemon's API. `where` is a URL, or the path of a Unix socket; one connection per call.

    Every method raises `Unreachable` or `ApiRefused`.
    """

    def __init__(
        self, where: str | Path, *, token: str | None = None, timeout_s: float = ANSWER_S_MAX
    ) -> None:
        self.where = where
        self._token = token
        self._timeout_s = timeout_s
        self._prefix = ""
        if isinstance(where, str):
            parts = _parts_of(where)
            self._prefix = parts.path.rstrip("/")

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        wait_s: float = 0.0,
    ) -> Any:
        """The decoded answer. `wait_s` is how long the daemon may wait before it answers."""
        with self._exchange(method, path, query, body, wait_s) as response:
            data = _read_bounded(response)
            if response.status >= 300:
                raise _refusal(response, data)
            try:
                return strict_json.decode(data) if data.strip() else None
            except strict_json.NotJson as error:
                raise NotOurs(f"the answer is not one of ours: {error}") from None

    def get(self, path: str, *, wait_s: float = 0.0, **query: Any) -> Any:
        """`GET`; parameters that are None are left out."""
        return self.call("GET", path, query=query, wait_s=wait_s)

    def post(self, path: str, body: Any = None, *, wait_s: float = 0.0, **query: Any) -> Any:
        """`POST`."""
        return self.call("POST", path, query=query, body=body, wait_s=wait_s)

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        idle_s_max: float | None = None,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Iterator[Streamed]:
        """`GET` with a body that is read as it comes. `idle_s_max` None: silence may last."""
        with self._exchange("GET", path, query, None, 0.0, headers or {}) as response:
            if response.status >= 300:
                raise _refusal(response, _read_bounded(response))
            sock = _socket_of(response)
            if sock is not None:
                sock.settimeout(idle_s_max)
            yield Streamed(response.headers, _chunks(response))

    @contextmanager
    def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        wait_s: float,
        more: Mapping[str, str] | None = None,
    ) -> Iterator[HTTPResponse]:
        connection = self._connection()
        try:
            connection.connect()
            connection.sock.settimeout(self._timeout_s + wait_s)
            data = None if body is None else strict_json.encode(body)
            headers = self._headers(data) | dict(more or {})
            connection.request(method, self._target(path, query), data, headers)
            yield connection.getresponse()
        except (OSError, HTTPException, NotOurs) as error:
            raise Unreachable(error, f"cannot reach {self.where}: {_why(error)}") from None
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        if isinstance(self.where, Path):
            return _UnixConnection(self.where, CONNECT_S_MAX)
        parts = urlsplit(self.where)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=CONNECT_S_MAX)

    def _target(self, path: str, query: Mapping[str, Any] | None) -> str:
        pairs = {key: _plain(value) for key, value in (query or {}).items() if value is not None}
        return self._prefix + path + (f"?{urlencode(pairs)}" if pairs else "")

    def _headers(self, data: bytes | None) -> dict[str, str]:
        headers = {"Accept": "application/json", "Connection": "close"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if data is not None:
            headers["Content-Type"] = "application/json"
        return headers


def _parts_of(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass  # of brackets or of the port; what is to be written says more than which
    raise ValueError(f"{url!r} is not a URL such as http://host:8080")


def segment(text: str) -> str:
    """One part of a path, whatever is in it."""
    return quote(text, safe="")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read_bounded(response: HTTPResponse) -> bytes:
    data = response.read(ANSWER_BYTES_MAX + 1)
    if len(data) > ANSWER_BYTES_MAX:
        raise NotOurs(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
    return data


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    while chunk := response.read1(CHUNK_BYTES):
        yield chunk


def _socket_of(response: HTTPResponse) -> socket.socket | None:
    """The response reads through a file over the socket; its timeout is the socket's."""
    raw = getattr(response.fp, "raw", None)
    found: socket.socket | None = getattr(raw, "_sock", None)
    return found


def _refusal(response: HTTPResponse, data: bytes) -> ApiRefused:
    """The error that the daemon speaks of. Raises `NotOurs` when it is no daemon of ours."""
    status = response.status
    if status < 400:
        to = response.headers.get("location", "nowhere")[:200]
        raise NotOurs(f"redirected to {to}; redirects are not followed, give the final URL")
    try:
        answer = strict_json.decode(data)
        faults = [dict(fault) for fault in answer.get("faults", [])]
        return ApiRefused(status, str(answer["error"]), str(answer["message"]), faults)
    except (strict_json.NotJson, AttributeError, KeyError, TypeError, ValueError):
        text = f"HTTP {status}, and the answer is not one of ours; is this the right address?"
        raise NotOurs(text) from None


def _why(error: Exception) -> str:
    """The cause in words of the person who typed the command."""
    if isinstance(error, FileNotFoundError):
        return "there is no such socket"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, PermissionError):
        return "you may not open it"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, BrokenPipeError | ConnectionResetError):
        return "the connection was cut"
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved ({error.strerror})"
    if isinstance(error, IncompleteRead):
        return "it stopped in the middle of an answer"
    if isinstance(error, HTTPException):
        return f"what answers there does not speak HTTP ({type(error).__name__})"
    return str(error) or type(error).__name__
