"""The edge of an HTTP API: JSON in, JSON out, and every error as one `ErrorAnswer`.

Endpoints are plain starlette functions that return `answer(...)` or raise what the domain and the
wire raise; here, and only here, exceptions become status codes. What nobody expected is told to
`on_failure` with an id, and the caller learns the id alone.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Router
from starlette.types import Message, Receive, Scope, Send

from agent.domain.errors import AgentError, InvalidDocument, Refused, shown
from agent.infra.intake import Held, Intake
from agent.infra.request_target import require_sound
from agent.wire import strict_json
from agent.wire.messages import (
    BODY_BYTES_MAX,
    BadMessage,
    ErrorAnswer,
    convert_message,
    plain_faults,
)

BODY_READ_S_MAX = 60.0
REQUESTS_MAX = 4096  # under way at once, long polls included, unless the daemon says otherwise
STATUS_OF_CODE: Mapping[str, int] = {
    "bad_request": 400,
    "bad_events": 400,
    "unsupported_protocol": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "gone": 410,
    "too_large": 413,
    "invalid": 422,
    "busy": 503,
    "unavailable": 503,
}
STATUS_REFUSED = 409  # understood, and the state of things forbids it
RETRY_AFTER_S = 2


class Line(Protocol):
    """A connection that tells when it ends (`http_server.Line`)."""

    is_gone: bool
    hung_up: Callable[[], None] | None


M = TypeVar("M", bound=msgspec.Struct)
T = TypeVar("T")
OnFailure = Callable[[str, str, str, BaseException], None]
"""(error id, method, path, exception)"""


class JsonAnswer(Response):
    """A value as JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Compact UTF-8 and a newline, for people with curl."""
        return strict_json.encode(content) + b"\n"


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> JsonAnswer:
    """The value, encoded."""
    return JsonAnswer(value, status_code=status, headers=headers)


def error_answer(error: AgentError) -> JsonAnswer:
    """What an expected error looks like outside."""
    body = _error_body(error)
    status = _status_of(error, body.error)
    headers = {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    elif status == 413:
        headers["connection"] = "close"  # the rest of the body is not going to be read
    elif status == 503:
        headers["retry-after"] = str(RETRY_AFTER_S)
    return answer(body, status, headers)


def _status_of(error: AgentError, code: str) -> int:
    if isinstance(error, strict_json.NotJson | BadMessage):
        return 400
    if isinstance(error, InvalidDocument):
        return 422
    return STATUS_OF_CODE.get(code, STATUS_REFUSED)


def _error_body(error: AgentError) -> ErrorAnswer:
    if isinstance(error, strict_json.NotJson):
        return ErrorAnswer(error="not_json", message=str(error))
    if isinstance(error, BadMessage):
        return ErrorAnswer(error="bad_message", message=str(error))
    if isinstance(error, InvalidDocument):
        return ErrorAnswer(error="invalid", message=str(error), faults=plain_faults(error.faults))
    if isinstance(error, Refused):
        return ErrorAnswer(
            error=error.code,
            message=str(error),
            faults=plain_faults(tuple(getattr(error, "faults", ()))),
            expected=getattr(error, "expected", None),
            acked=getattr(error, "acked", None),
        )
    return ErrorAnswer(error="refused", message=str(error))


async def read_body(
    request: Request, bytes_max: int = BODY_BYTES_MAX, held: Held | None = None
) -> bytes:
    """The whole body, never more than `bytes_max` of it in memory. Raises `Refused`."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > bytes_max:
        raise _too_large(bytes_max)
    received = bytearray()
    try:
        async with asyncio.timeout(BODY_READ_S_MAX):
            async for chunk in request.stream():
                received += chunk
                if held is not None:
                    held.add(len(chunk))
                if len(received) > bytes_max:
                    raise _too_large(bytes_max)
    except TimeoutError:
        raise Refused(
            "bad_request", f"the body did not arrive within {BODY_READ_S_MAX:g} s"
        ) from None
    return bytes(received)


def _too_large(bytes_max: int) -> Refused:
    return Refused("too_large", f"the body is larger than {bytes_max} bytes; send less at once")


async def _read(
    request: Request, decode: Callable[[bytes], T], bytes_max: int = BODY_BYTES_MAX
) -> T:
    intake: Intake = request.app.intake
    with intake.holding() as held:
        return await intake.decode(await read_body(request, bytes_max, held), decode)


async def read_json(request: Request, bytes_max: int = BODY_BYTES_MAX) -> Any:
    """The body as plain values. Raises `NotJson`, `Refused`."""
    return await _read(request, strict_json.decode, bytes_max)


async def read_optional_json(request: Request) -> Any:
    """`read_json`, an empty body being an empty object."""
    return await _read(request, lambda body: strict_json.decode(body) if body.strip() else {})


async def read_message(request: Request, message: type[M], bytes_max: int = BODY_BYTES_MAX) -> M:
    """The body as a message of the wire. Raises `NotJson`, `BadMessage`, `Refused`."""
    return convert_message(await read_json(request, bytes_max), message)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of work that waits, as long as the caller does: who hangs up gives up a place.

    The work is cancelled then, so only waiting may be lost with it. Read the body before. Raises
    `ClientDisconnect`, and what the work raises.
    """
    line = getattr(request.state, "line", None)
    if line is not None:
        return await _while_held(line, work)
    working = asyncio.ensure_future(work)
    hanging_up = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({working, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return await working
    finally:
        working.cancel()
        hanging_up.cancel()


async def _while_held(line: Line, work: Coroutine[Any, Any, T]) -> T:
    """The same without a task of its own: the connection calls when it ends."""
    task = asyncio.current_task()
    assert task is not None, "endpoints run in tasks"
    if line.is_gone:
        work.close()
        raise ClientDisconnect

    is_cancelled = False

    def cancel() -> None:
        nonlocal is_cancelled
        is_cancelled = True
        task.cancel()

    line.hung_up = cancel
    try:
        return await work
    except asyncio.CancelledError:
        if is_cancelled and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise  # the server goes down
    finally:
        line.hung_up = None


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def admit_all(_request: Request) -> None:
    """No door."""


def note_nothing(_status: int) -> None:
    """Nobody counts."""


def note_no_answer(_scope: Scope, _status: int) -> None:
    """Nobody counts."""


class Edge:
    """The ASGI application: routes, and around them the door and the translation of errors.

    `admit` raises for a caller who may not enter. It is asked before the path is looked at, so that
    a stranger does not even learn what exists; only `open_paths` are for everybody. `on_status` is
    told the code of each answer, `on_answer` its request as well. `spared_paths` are answered even
    while `requests_max` are under way: who watches must see a busy daemon, not a dead one.
    """

    def __init__(
        self,
        routes: Iterable[BaseRoute],
        on_failure: OnFailure,
        *,
        admit: Callable[[Request], None] = admit_all,
        open_paths: frozenset[str] = frozenset(),
        on_status: Callable[[int], None] = note_nothing,
        on_answer: Callable[[Scope, int], None] = note_no_answer,
        requests_max: int = REQUESTS_MAX,
        spared_paths: frozenset[str] = frozenset(),
    ) -> None:
        self._router = Router(list(routes), redirect_slashes=False)
        self._on_failure = on_failure
        self._admit = admit
        self._open_paths = open_paths
        self._on_status = on_status
        self._on_answer = on_answer
        self._requests_max = requests_max
        self._spared_paths = spared_paths
        self.under_way = 0
        self.intake = Intake()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._on_status(message["status"])
                self._on_answer(scope, message["status"])
            await send(message)

        is_full = self.under_way >= self._requests_max
        if is_full and scope["path"] not in self._spared_paths:
            full = error_answer(Refused("busy", "too many requests at once; try again shortly"))
            await full(scope, receive, counted)
            return
        self.under_way += 1
        try:
            await self._guarded(scope, receive, counted)
        finally:
            self.under_way -= 1

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            if scope["path"] not in self._open_paths:
                self._admit(Request(scope))
            require_sound(scope)
            scope["app"] = self  # makes the router raise, instead of answering in plain text
            await self._router(scope, receive, watched)
        except ClientDisconnect:
            return
        except Exception as error:
            response = self._translate(error, scope)
            if started:
                raise  # half an answer is out: the server must cut the connection
            await response(scope, receive, send)

    def _translate(self, error: Exception, scope: Scope) -> Response:
        if isinstance(error, AgentError):
            return error_answer(error)
        if isinstance(error, HTTPException):
            return _http_answer(error, scope)
        error_id = secrets.token_hex(6)
        self._on_failure(error_id, scope["method"], scope["path"], error)
        message = f"an error of ours, not of yours; the log has it under {error_id}"
        return answer(ErrorAnswer(error="internal", message=message), 500)


def _http_answer(error: HTTPException, scope: Scope) -> Response:
    if error.status_code == 404:
        return error_answer(Refused("not_found", f"there is nothing at {shown(scope['path'])}"))
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{scope['method']} is not possible here; possible: {allowed}"
        body = ErrorAnswer(error="method_not_allowed", message=message)
        return answer(body, 405, {"allow": allowed})
    body = ErrorAnswer(error="refused", message=str(error.detail))
    return answer(body, error.status_code)


def bearer_token(request: Request) -> str:
    """The credential of the request. Raises `Refused` (401) if there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Refused("unauthorized", "a bearer token is needed: Authorization: Bearer …")
    return token.strip()
